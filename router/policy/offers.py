"""Passes plugin policies that come and go on to the catalog and to the pools. Decides nothing and holds no state."""

from __future__ import annotations

from collections.abc import Collection

from router.policy.catalog import PolicyCatalog
from router.policy.controller import PolicyController


class PluginOffers:
    """The `PluginListener` of a replica."""

    def __init__(self, catalog: PolicyCatalog, controller: PolicyController) -> None:
        self._catalog = catalog
        self._controller = controller

    def in_use(self) -> Collection[str]:
        """Names of policies that a pool has now or may return to."""
        return self._controller.mentioned

    def offered(self, name: str) -> None:
        """Let requests choose the policy, and apply records that were waiting for it."""
        self._catalog.add(name)
        self._controller.retry()

    def withdrawn(self, name: str) -> None:
        """Stop offering the policy to requests."""
        self._catalog.remove(name)
