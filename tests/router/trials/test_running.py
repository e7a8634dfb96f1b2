"""A running trial: the sum over replicas, the guard's looks, and objections to a promotion."""

from __future__ import annotations

from router.trials.figures import ArmFigures, TrialFigures, TrialReading
from router.trials.fleet import PoolHistory
from router.trials.running import RunningTrial, identity_of
from router.trials.trial import Trial
from statesync.store.policy_record import CanaryGuard, PolicyChoice
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


def test_figures_of_another_record_that_had_the_same_generation_do_not_count() -> None:
    """The shared state came back with an earlier state, and another canary got this one's generation."""
    one, other = running(), running()
    other.trial.record = record(percent=20.0)
    theirs = RunningTrial(other.trial, "gone/3", Clock(), lambda *_: None).own()
    mine = RunningTrial(one.trial, "there/2", Clock(), lambda *_: None).own()
    assert theirs.of != mine.of
    one.received({"there/2": mine, "gone/3": theirs} | {"old/4": shared(5, 4)["there/2"]})
    assert one.reporters == ["here/1", "old/4", "there/2"], "an older version names no record"
    assert one.figures().of == mine.of


def test_a_stage_is_the_same_trial_whatever_its_shadow_and_its_limits() -> None:
    first = record(generation=3)
    assert first.canary is not None
    canary = first.canary._replace(began=3, since=3, guard=CanaryGuard(error_rate=0.5))
    later = first._replace(generation=4, shadow=PolicyChoice("random"), canary=canary, note="why", by="me", at=7.0)
    assert identity_of(later) == identity_of(first)
    assert identity_of(later._replace(params={"d": 3})) != identity_of(first)
    assert identity_of(later._replace(canary=canary._replace(since=4, stage=1))) != identity_of(first)


def test_a_broken_guard_stays_broken_and_halts_the_candidate() -> None:
    one = running()
    one.received(shared(100, 100, failures=60))
    verdict = one.look()
    assert verdict is not None and verdict.state == "broken"
    assert one.trial.halted
    one.received(shared(9000, 9000, failures=60))
    assert one.look() == verdict
    assert one.verdict(one.figures()) == verdict


def test_a_policy_that_fails_waits_for_no_further_requests() -> None:
    one = running()
    one.received(shared(3, 6, policy_failures=6))
    verdict = one.look()
    assert verdict is not None and verdict.reason.startswith("broken: policy_failures")


def test_asking_for_the_verdict_ends_nothing() -> None:
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
    assert "undecided, about " in one.objection()
    one.received(shared(2000, 2000))
    assert one.objection() == ""


def test_a_summary_for_the_history_has_what_was_found() -> None:
    """Case J 59."""
    one = running()
    one.received(shared(2000, 2000))
    assert one.summary().startswith("canary after 4000 requests: error_rate 0 % (-0.")
    assert one.summary().endswith(") below 1 %")
    one.received(shared(3, 3))
    assert one.summary() == "canary after 6 requests: needs 7 more requests on its smaller arm"


def test_another_record_of_the_same_candidate_goes_on_with_what_was_counted_before() -> None:
    """Case J 56."""
    one, totals = running(), [0, 0]
    one.trial.halted = False
    history = PoolHistory((0.1,), lambda: tuple(totals))
    history.note(0.0)
    totals[:] = [300, 300]
    first = RunningTrial(one.trial, "here/1", Clock(), lambda *_: None, history)
    totals[:] = [900, 900]
    second = RunningTrial(one.trial, "here/1", Clock(), lambda *_: None, history)
    first.received(shared(5, 4))
    second.follows(first)
    own = second.own()
    assert (sum(own.before.values()), sum(own.during.values())) == (300, 600)
    assert second.figures().canary.placed == 4
    assert second.key == 3


def test_it_ends_once() -> None:
    ended: list[tuple[RunningTrial, str]] = []
    one = running(ended)
    one.end("another policy")
    one.end("a third")
    assert ended == [(one, "another policy")]
    assert one.reading() == TrialReading("main", one.own(), True, False, False)
