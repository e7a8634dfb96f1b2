"""The live policy of each pool, and how it is replaced: build fully, agree through the store, swap one reference.

The data plane reads `current` at each request and keeps nothing, so a swap takes effect with the next pick. Whatever
goes wrong (an unknown name, bad parameters, a stale generation, a silent store) leaves the old policy serving.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import NamedTuple, Protocol

from router.settings import PolicySpec
from schedulers.errors import SchedulerError
from schedulers.protocols import Scheduler
from statesync.errors import UnknownPool
from statesync.store import PolicyRecord

_log = logging.getLogger("turnout.policy")

Create = Callable[[str, Mapping[str, object]], Scheduler]
"""Builds a policy by name and parameters; raises SchedulerError. `schedulers.registry.create` is the real one."""


class PolicyStore(Protocol):
    """The part of a StateStore that policies need."""

    async def put_policy(
        self, pool: str, name: str, params: Mapping[str, object], /, *, if_generation: int | None
    ) -> PolicyRecord:
        """See StateStore."""


class _Live(NamedTuple):
    scheduler: Scheduler
    record: PolicyRecord


class PolicySwitch:
    """Holds each pool's scheduler and the record it was built from."""

    def __init__(self, store: PolicyStore, configured: Mapping[str, PolicySpec], create: Create) -> None:
        """Builds what the settings say, as generation 0. Raises SchedulerError."""
        self._store = store
        self._create = create
        self._live = {
            pool: _Live(create(spec.name, spec.params), PolicyRecord(spec.name, dict(spec.params), 0))
            for pool, spec in configured.items()
        }

    def current(self, pool: str) -> Scheduler:
        """The pool's scheduler now. Raises KeyError for a pool that is not configured."""
        return self._live[pool].scheduler

    def record(self, pool: str) -> PolicyRecord:
        """What `current` was built from; generation 0 is the settings' own. Raises UnknownPool."""
        live = self._live.get(pool)
        if live is None:
            raise UnknownPool(f"no pool named {pool!r}")
        return live.record

    @property
    def records(self) -> Mapping[str, PolicyRecord]:
        """Every pool's record."""
        return {pool: live.record for pool, live in self._live.items()}

    async def set(
        self, pool: str, name: str, params: Mapping[str, object], if_generation: int | None = None
    ) -> PolicyRecord:
        """Replace the pool's policy on every replica.

        Raises UnknownPool, UnknownPolicy or InvalidParams before anything has changed, StaleGeneration when
        `if_generation` is not the present one, StoreUnavailable when the store does not answer.
        """
        self.record(pool)
        scheduler = self._create(name, params)
        record = await self._store.put_policy(pool, name, params, if_generation=if_generation)
        self._swap(pool, _Live(scheduler, record))
        return record

    def policy_changed(self, pool: str, record: PolicyRecord) -> None:
        """Follow what was set on another replica, or before this one started.

        What this build does not know is logged, and the old one stays.
        """
        live = self._live.get(pool)
        if live is None or record.generation <= live.record.generation:
            return
        try:
            scheduler = self._create(record.name, record.params)
        except SchedulerError as error:
            _log.error("pool %s keeps policy %s: %s", pool, live.record.name, error)
            return
        self._swap(pool, _Live(scheduler, record))

    def _swap(self, pool: str, new: _Live) -> None:
        # Our own change may come back through the store's listener first, or a newer one may have overtaken it.
        if new.record.generation <= self._live[pool].record.generation:
            return
        self._live[pool] = new
        _log.info("pool %s now has policy %s, generation %d", pool, new.record.name, new.record.generation)
