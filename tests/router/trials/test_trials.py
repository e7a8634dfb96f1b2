"""All trials of a replica: told, judged, taken back, ended, reported; over real stores and real switches."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from itertools import count

from router.policy.controller import PolicyController
from router.settings import PolicySpec, TrialSettings
from router.trials.attach import trials_of
from router.trials.shadow import ShadowSample
from router.trials.trials import Trials
from schedulers import registry
from schedulers.types import Decision
from statesync.errors import StoreUnavailable
from statesync.store.memory import MemoryStore
from statesync.store.policy_record import Canary, CanaryGuard, PolicyChoice
from tests.fakes.trial_inputs import SNAPSHOT, A, request
from tests.fakes.virtual_time import Clock
from tests.fakes.waiting import until

_hubs = count()
NEW = Canary(PolicyChoice("random"), 50.0, CanaryGuard(min_requests=10))


class Listening:
    """Hands what is heard of policies to a switch."""

    def __init__(self, switch: PolicyController) -> None:
        self.policy_changed = switch.policy_changed

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *_: None


class Replica:
    """A switch and its trials on a shared store."""

    def __init__(self, hub: str, name: str) -> None:
        self.name = name
        self.store = MemoryStore(hub)
        self.clock = Clock()
        self.trials: Trials = trials_of(name, self, self.clock, lambda: self.switch, TrialSettings())
        self.switch = PolicyController(self.store, {"main": PolicySpec(name="p2c")}, registry.create, self.trials.make)
        self.away = False

    async def share_trial(self, pool: str, generation: int, teller: str, figures: bytes, /) -> dict[str, bytes]:
        """The store's, unless it is away."""
        if self.away:
            raise StoreUnavailable("away")
        return dict(await self.store.share_trial(pool, generation, teller, figures))

    def count(self, placed: int, failures: int = 0) -> None:
        """Requests of both arms; the failures are the candidate's."""
        trial = self.trials.running["main"]
        assert trial.baseline is not None and trial.canary is not None
        for arm in (trial.baseline, trial.canary):
            arm.placed = arm.ended = placed
        trial.canary.failures = failures


def scene(play: Callable[[Replica, Replica], Awaitable[None]]) -> None:
    """Two replicas that share a hub."""

    async def run() -> None:
        hub = f"trials-{next(_hubs)}"
        left, right = Replica(hub, "left"), Replica(hub, "right")
        for each in (left, right):
            await each.store.start(each.name, Listening(each.switch))  # type: ignore[arg-type]
        try:
            await play(left, right)
        finally:
            await left.store.aclose()
            await right.store.aclose()

    asyncio.run(run())


def test_nothing_runs_and_nothing_is_shown_without_a_trial() -> None:
    async def play(left: Replica, right: Replica) -> None:
        await left.trials.step()
        assert left.trials.report("main") == {"pool": "main", "running": False, "last": None}
        assert not left.trials.running

    scene(play)


def test_a_shadow_alone_is_in_the_way_of_the_requests_that_it_wants_only() -> None:
    async def play(left: Replica, right: Replica) -> None:
        await left.switch.set_shadow("main", PolicyChoice("random"))
        shadow = left.trials.running["main"].shadow
        assert shadow is not None
        shadow.sample(ShadowSample(request(), SNAPSHOT, Decision(A, "p2c"), 1e-6))
        assert not left.trials.running
        assert left.trials.report("main")["running"]
        await until(lambda: bool(left.trials.running))
        shadow.sample(ShadowSample(request(), SNAPSHOT, Decision(A, "p2c"), 1e-6))
        await left.switch.set_shadow("main", None)
        assert not left.trials.report("main")["running"]
        shadow.told(True)  # as the timer of a shadow that ended would
        assert not left.trials.running

    scene(play)


def test_a_canary_beside_a_shadow_is_asked_about_every_request() -> None:
    async def play(left: Replica, right: Replica) -> None:
        await left.switch.set_shadow("main", PolicyChoice("random"))
        await left.switch.set_canary("main", NEW)
        trial = left.trials.running["main"]
        assert trial.shadow is not None
        trial.shadow.sample(ShadowSample(request(), SNAPSHOT, Decision(A, "p2c"), 1e-6))
        assert left.trials.running["main"] is trial

    scene(play)


def test_replicas_judge_the_sum_of_what_all_count() -> None:
    async def play(left: Replica, right: Replica) -> None:
        await left.switch.set_canary("main", NEW)
        await until(lambda: bool(right.trials.running))
        for each in (left, right):
            each.count(6)
        await left.trials.step()
        await right.trials.step()
        shown = right.trials.report("main")
        arms = shown["canary"]["arms"]  # type: ignore[index]
        assert (arms["canary"]["requests"], arms["baseline"]["requests"]) == (12, 12)
        assert shown["canary"]["state"] == "within"  # type: ignore[index]
        assert len(shown["replicas"]) == 2  # type: ignore[arg-type]

    scene(play)


def test_a_broken_guard_takes_the_canary_back_for_all_once() -> None:
    async def play(left: Replica, right: Replica) -> None:
        await left.switch.set_canary("main", NEW)
        await until(lambda: bool(right.trials.running))
        left.count(100, 70)
        right.count(100, 70)
        await asyncio.gather(left.trials.step(), right.trials.step())
        await until(lambda: not left.trials.running and not right.trials.running)
        note = left.switch.record("main").note
        assert note.startswith("canary random rolled back: error_rate 0.7 (")
        assert (right.switch.record("main").note, right.switch.record("main").canary) == (note, None)
        assert sum(each.trials.taken_back.get("main", 0) for each in (left, right)) == 1
        for each in (left, right):
            last = each.trials.report("main")["last"]
            assert last["ended"] == note  # type: ignore[index]
            assert last["canary"]["arms"]["canary"]["failures"] >= 70  # type: ignore[index]

    scene(play)


def test_while_the_store_is_away_a_replica_judges_by_what_it_knows_and_stops_using_the_candidate() -> None:
    async def play(left: Replica, right: Replica) -> None:
        await left.switch.set_canary("main", NEW)
        left.count(100, 70)
        left.away = True
        put, left.store.put_policy = left.store.put_policy, _unavailable  # type: ignore[method-assign, assignment]
        await left.trials.step()
        assert left.trials.running["main"].halted
        assert left.switch.record("main").canary is not None
        left.store.put_policy = put  # type: ignore[method-assign]
        left.away = False
        await left.trials.step()
        assert left.switch.record("main").canary is None

    scene(play)


def test_a_candidate_that_the_policy_guard_took_out_is_taken_back() -> None:
    async def play(left: Replica, right: Replica) -> None:
        await left.switch.set_canary("main", NEW)
        trial = left.trials.running["main"]
        assert trial.canary is not None
        left.trials.policy_failed("main", trial.canary.scheduler)
        left.trials.policy_taken_out("main", trial.canary.scheduler, "5 failures within 10 s")
        await left.trials.step()
        assert left.switch.record("main").note == "canary random rolled back: policy_failures, 5 failures within 10 s"

    scene(play)


def test_failures_of_other_policies_are_not_the_candidates() -> None:
    async def play(left: Replica, right: Replica) -> None:
        await left.switch.set_canary("main", NEW)
        left.trials.policy_failed("main", registry.create("random"))
        left.trials.policy_taken_out("main", left.switch.current("main"), "why")
        trial = left.trials.running["main"]
        assert trial.canary is not None and trial.canary.policy_failures == 0
        assert not trial.halted

    scene(play)


def test_a_report_is_json_whatever_is_unknown() -> None:
    async def play(left: Replica, right: Replica) -> None:
        await left.switch.set_shadow("main", PolicyChoice("random"))
        await left.switch.set_canary("main", NEW)
        json.dumps(left.trials.report("main"), allow_nan=False)
        left.count(40, 1)
        json.dumps(left.trials.report("main"), allow_nan=False)
        await left.switch.cancel("main")
        assert left.trials.report("main")["last"]["generation"] == 2  # type: ignore[index]

    scene(play)


async def _unavailable(*_: object, **__: object) -> None:
    raise StoreUnavailable("away")
