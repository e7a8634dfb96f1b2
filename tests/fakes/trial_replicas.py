"""Replicas that share a store, each with a policy controller and its trials, for tests of trials on live traffic."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from itertools import count

from router.policy.controller import PolicyController
from router.policy.model import ChangeOptions
from router.settings import PolicySpec
from router.trials.monitor import TrialMonitor
from router.trials.trials import Trials
from schedulers import registry
from statesync.errors import StoreUnavailable
from statesync.store.lineage import digest
from statesync.store.memory import MemoryStore
from statesync.store.policy_record import Canary, CanaryGuard, PolicyChoice
from statesync.store.protocol import PolicyRecord
from tests.fakes.virtual_time import Clock

_hubs = count()
NEW = Canary(PolicyChoice("random"), 50.0, CanaryGuard(min_requests=10))


class PolicyFollower:
    """A state listener that only follows policies."""

    def __init__(self, policies: PolicyController) -> None:
        self.policy_changed = policies.policy_changed

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *_: None


class TrialStore(MemoryStore):
    """A store that may not take figures."""

    away = False

    async def share_trial(self, pool: str, generation: int, process: str, figures: bytes, /) -> Mapping[str, bytes]:
        """Share figures unless the store is unavailable."""
        if self.away:
            raise StoreUnavailable("away")
        return await super().share_trial(pool, generation, process, figures)


class TrialReplica:
    """A policy controller and its trials, on a shared store."""

    def __init__(self, hub: str, name: str) -> None:
        self.name = name
        self.store = TrialStore(hub)
        self.clock = Clock()
        self.trials = Trials(name, self.clock)
        pools = {"main": PolicySpec(name="p2c")}
        self.policies = PolicyController(
            self.store, pools, registry.create, self.trials.make, summarise=self.trials.summary
        )
        self.monitor = TrialMonitor(self.trials, self.store, self.end_canary)

    async def end_canary(self, pool: str, record: PolicyRecord, note: str) -> object:
        how = ChangeOptions(record.generation, note, if_digest=digest(record))
        return await self.policies.set_canary(pool, None, how)

    def count(self, placed: int, failures: int = 0) -> None:
        """Count requests on both arms; the failures are the candidate's."""
        trial = self.trials.running["main"]
        assert trial.baseline is not None and trial.canary is not None
        for arm in (trial.baseline, trial.canary):
            arm.placed = arm.ended = placed
        trial.canary.failures = failures


def scene(play: Callable[[TrialReplica, TrialReplica], Awaitable[None]]) -> None:
    """Run a scene with two replicas that share a hub."""

    async def run() -> None:
        hub = f"trials-{next(_hubs)}"
        left, right = TrialReplica(hub, "left"), TrialReplica(hub, "right")
        for each in (left, right):
            await each.store.start(each.name, PolicyFollower(each.policies))  # type: ignore[arg-type]
        try:
            await play(left, right)
        finally:
            await left.store.aclose()
            await right.store.aclose()

    asyncio.run(run())
