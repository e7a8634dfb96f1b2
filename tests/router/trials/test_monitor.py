"""Running trials are shared, judged and rolled back, with real stores and real policy controllers."""

from __future__ import annotations

import asyncio

from statesync.errors import StoreUnavailable
from tests.fakes.trial_replicas import NEW, TrialReplica, scene
from tests.fakes.waiting import until


def test_replicas_judge_the_sum_of_all_counts() -> None:
    async def play(left: TrialReplica, right: TrialReplica) -> None:
        await left.policies.set_canary("main", NEW)
        await until(lambda: bool(right.trials.running))
        for each in (left, right):
            each.count(600)
        await left.monitor.step()
        await right.monitor.step()
        shown = right.trials.report("main")
        arms = shown["canary"]["arms"]  # type: ignore[index]
        assert (arms["canary"]["requests"], arms["baseline"]["requests"]) == (1200, 1200)
        assert shown["canary"]["state"] == "within"  # type: ignore[index]
        assert len(shown["replicas"]) == 2  # type: ignore[arg-type]

    scene(play)


def test_a_broken_guard_rolls_the_canary_back_once_for_all_replicas() -> None:
    async def play(left: TrialReplica, right: TrialReplica) -> None:
        await left.policies.set_canary("main", NEW)
        await until(lambda: bool(right.trials.running))
        left.count(100, 70)
        right.count(100, 70)
        await asyncio.gather(left.monitor.step(), right.monitor.step())
        await until(lambda: not left.trials.running and not right.trials.running)
        note = left.policies.record("main").note
        assert note.startswith("canary random rolled back: error_rate 70 % (")
        assert (right.policies.record("main").note, right.policies.record("main").canary) == (note, None)
        assert sum(each.monitor.rollbacks.get("main", 0) for each in (left, right)) == 1
        for each in (left, right):
            last = each.trials.report("main")["last"]
            assert last["ended"] == note  # type: ignore[index]
            assert last["canary"]["arms"]["canary"]["failures"] >= 70  # type: ignore[index]

    scene(play)


def test_without_the_store_a_replica_judges_by_its_own_figures_and_stops_using_the_candidate() -> None:
    async def play(left: TrialReplica, right: TrialReplica) -> None:
        await left.policies.set_canary("main", NEW)
        left.count(100, 70)
        left.store.away = True
        put, left.store.put_policy = left.store.put_policy, _unavailable  # type: ignore[method-assign, assignment]
        await left.monitor.step()
        assert left.trials.running["main"].halted
        assert left.policies.record("main").canary is not None
        left.store.put_policy = put  # type: ignore[method-assign]
        left.store.away = False
        await left.monitor.step()
        assert left.policies.record("main").canary is None

    scene(play)


def test_a_candidate_that_the_circuit_breaker_took_out_is_rolled_back() -> None:
    async def play(left: TrialReplica, right: TrialReplica) -> None:
        await left.policies.set_canary("main", NEW)
        trial = left.trials.running["main"]
        assert trial.canary is not None
        left.trials.policy_failed("main", trial.canary.scheduler)
        left.trials.policy_taken_out("main", trial.canary.scheduler, "5 failures within 10 s")
        await left.monitor.step()
        assert left.policies.record("main").note == "canary random rolled back: policy_failures, 5 failures within 10 s"

    scene(play)


async def _unavailable(*_: object, **__: object) -> None:
    raise StoreUnavailable("away")
