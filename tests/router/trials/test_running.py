"""A running trial: the sum over replicas, the guard's looks, and objections to a promotion."""

from __future__ import annotations

from router.trials.figures import ArmFigures, TrialFigures, TrialReading
from router.trials.running import RunningTrial
from router.trials.trial import Trial
from statesync.store.policy_record import CanaryGuard
from tests.fakes.trial_inputs import Fixed, record
from tests.fakes.virtual_time import Clock


def running(ended: list[tuple[RunningTrial, str]] | None = None) -> RunningTrial:
    trial = Trial("main", record(guard=CanaryGuard(min_requests=10)), Fixed(), Fixed(name="new"), None)
    ends = ended if ended is not None else []
    return RunningTrial(trial, "here/1", Clock(), lambda running, note: ends.append((running, note)))


def shared(baseline: int, canary: int, failures: int = 0, **more: int) -> dict[str, TrialFigures]:
    """The figures of another replica."""
    of_canary = ArmFigures(placed=canary, ended=canary, failures=failures, **more)  # type: ignore[arg-type]
    return {"there/2": TrialFigures(baseline=ArmFigures(placed=baseline, ended=baseline), canary=of_canary)}


def test_the_sum_is_this_replica_s_own_and_the_others_last_figures() -> None:
    one = running()
    assert one.trial.canary is not None
    one.trial.canary.placed = 2
    own, gone = TrialFigures(canary=ArmFigures(placed=99)), shared(1, 1)["there/2"]
    one.received(shared(5, 4) | {"here/1": own, "gone/3": gone})
    assert (one.figures().canary.placed, one.figures().baseline.placed) == (7, 6)
    assert one.reporters == ["here/1", "gone/3", "there/2"]


def test_a_look_is_taken_when_due_and_once_only() -> None:
    one = running()
    one.received(shared(9, 9))
    verdict = one.look()
    assert verdict is None
    one.received(shared(10, 10))
    verdict = one.look()
    assert verdict is not None and verdict.state == "within"
    one.received(shared(11, 11))
    assert one.look() is None
    one.received(shared(12, 12))
    assert one.look() is not None


def test_a_broken_guard_stays_broken_and_halts_the_candidate() -> None:
    one = running()
    one.received(shared(100, 100, failures=60))
    verdict = one.look()
    assert verdict is not None and verdict.state == "broken"
    assert one.trial.halted
    one.received(shared(9000, 9000, failures=60))
    assert one.look() == verdict
    assert one.verdict(one.figures()) == verdict


def test_a_policy_that_fails_waits_for_no_look() -> None:
    one = running()
    one.received(shared(3, 6, policy_failures=6))
    verdict = one.look()
    assert verdict is not None and verdict.failing


def test_asking_for_the_verdict_does_not_count_as_a_look() -> None:
    one = running()
    one.received(shared(100, 100, failures=60))
    shown = one.verdict(one.figures())
    assert shown is not None and shown.state == "broken"
    assert one.broken is None


def test_objections_to_a_promotion_are_reported() -> None:
    one = running()
    one.received(shared(100, 4))
    assert one.objection().startswith("canary new is not ready: needs 6 more requests")
    one.received(shared(100, 100, failures=60))
    assert "broken: error_rate" in one.objection()
    one.received(shared(100, 100))
    assert one.objection() == ""


def test_it_ends_once() -> None:
    ended: list[tuple[RunningTrial, str]] = []
    one = running(ended)
    one.end("another policy")
    one.end("a third")
    assert ended == [(one, "another policy")]
    assert one.reading() == TrialReading("main", one.own(), True, False, False)
