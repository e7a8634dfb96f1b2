"""The `StateListener` of the process: what other replicas say goes to whoever keeps it. Nothing is decided here."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from router.policy.controller import PolicyController
from router.replica.pod_registry import PodRegistry
from schedulers.types import PodId
from statesync.engines.scraper import Scraper
from statesync.load.view import LoadView
from statesync.prefix.index import PrefixIndex
from statesync.store.protocol import PolicyRecord
from statesync.types import EngineReport, InflightNumbers, PrefixPage


class ReplicaStateListener:
    """Hears the other replicas."""

    def __init__(
        self,
        view: LoadView,
        prefix: PrefixIndex,
        pod_registry: PodRegistry,
        scraper: Scraper,
        policies: PolicyController,
    ) -> None:
        self._view = view
        self._prefix = prefix
        self._pod_registry = pod_registry
        self._scraper = scraper
        self._policies = policies

    def replica_inflight(self, replica: str, numbers: Mapping[PodId, InflightNumbers], full: bool, /) -> None:
        """See StateListener."""
        self._view.set_remote(replica, numbers, full)

    def replica_gone(self, replica: str, /) -> None:
        """See StateListener."""
        self._view.drop_remote(replica)

    def placed_elsewhere(self, pod: PodId, blocks: Sequence[int], /) -> None:
        """See StateListener."""
        self._pod_registry.placed_elsewhere(pod, blocks)

    def forgotten_elsewhere(self, pod: PodId, /) -> None:
        """See StateListener."""
        self._scraper.forgotten_elsewhere(pod)
        self._pod_registry.on_restart(pod)

    def reported_elsewhere(self, pod: PodId, report: EngineReport, age_s: float, /) -> None:
        """See StateListener."""
        self._scraper.reported_elsewhere(pod, report, age_s)

    def policy_changed(self, pool: str, record: PolicyRecord, /) -> None:
        """See StateListener."""
        self._policies.policy_changed(pool, record)

    def checkpoint(self) -> Iterable[PrefixPage]:
        """See StateListener."""
        return self._prefix.pages()

    def restored(self, page: PrefixPage, /) -> None:
        """See StateListener."""
        self._pod_registry.restored(page)
