"""The guard's verdict: what breaks the guard, what it waits for, what it leaves undecided, and its rate of errors."""

from __future__ import annotations

import pytest

from loadtests.bench.trials.play import Plan, heavy_sessions, independent, play
from router.trials.durations import bucket_of
from router.trials.figures import ArmFigures, TrialFigures
from router.trials.verdict import Verdict, alarm, judge, rounded, spent
from statesync.store.policy_record import Canary, CanaryGuard, PolicyChoice
from tests.fakes.chance import five_deviations

CANARY = Canary(PolicyChoice("new"), 50.0)
SPREAD = (0.06, 0.08, 0.09, 0.1, 0.11, 0.12, 0.15, 0.2, 0.3, 0.5)
"""Times to first token, in equal numbers."""


def arm(placed: int, failures: int = 0, ttft: dict[int, int] | None = None, **more: object) -> ArmFigures:
    return ArmFigures(placed=placed, ended=placed, failures=failures, ttft=ttft or {}, **more)  # type: ignore[arg-type]


def times(count: int, slower: float = 1.0) -> dict[int, int]:
    return {bucket_of(seconds * slower): count // len(SPREAD) for seconds in SPREAD}


def judged(baseline: ArmFigures, canary: ArmFigures, of: Canary = CANARY, **more: object) -> Verdict:
    """The verdict, which an alarm has to agree with."""
    figures = TrialFigures(baseline=baseline, canary=canary, **more)  # type: ignore[arg-type]
    verdict, found = judge(of, figures), alarm(of, figures)
    assert (found is not None) is (verdict.state == "broken")
    return verdict


def test_before_each_arm_has_enough_requests_the_verdict_has_the_missing_number() -> None:
    verdict = judged(arm(900), arm(13, 13))
    assert (verdict.state, verdict.reason) == ("waiting", "needs 37 more requests on its smaller arm")


def test_harm_that_is_certain_is_found_before_that() -> None:
    """Case J 57."""
    assert judged(arm(80, 0, times(80)), arm(20, 0, times(20, 10.0))).state == "broken"
    assert judged(arm(80, 0, times(80)), arm(10, 0, times(10, 10.0))).state == "waiting"
    assert judged(arm(80), arm(20, 20)).state == "broken"


def test_there_is_no_verdict_below_a_number_of_sessions() -> None:
    """Case J 55."""
    few = arm(400, 400, placed_by={1: 200, 2: 200})
    verdict = judged(arm(400, placed_by=dict.fromkeys(range(60), 7)), few)
    assert (verdict.state, verdict.reason) == ("waiting", "needs 8 more sessions on its smaller arm")


def test_failures_of_the_candidate_alone_break_the_error_guard_and_are_named() -> None:
    verdict = judged(arm(400, 2), arm(400, 80))
    assert verdict.state == "broken"
    assert verdict.reason.startswith("broken: error_rate 20 % (1")
    assert verdict.reason.endswith("over 1 % after 800 requests")


def test_a_session_that_always_fails_breaks_nothing_though_its_requests_would() -> None:
    """Case J 55."""
    by = dict.fromkeys(range(40), 10)
    one = arm(400, 10, placed_by=by, judged_by=by, failures_by={3: 10})
    sound = arm(400, 0, placed_by=by, judged_by=by)
    assert judged(sound, one).state == "undecided"
    assert judged(arm(4000, 4), arm(400, 24)).state == "broken"


def test_failures_of_both_arms_and_clients_that_leave_break_nothing() -> None:
    assert judged(arm(400, 80), arm(400, 84)).state == "undecided"
    assert judged(arm(400), arm(400, 0, left=300)).state == "undecided"


@pytest.mark.parametrize("slower", [2.0, 10.0])
def test_a_slow_candidate_is_never_within(slower: float) -> None:
    """Case J 54: at its first chance it is undecided or broken, and broken soon."""
    states = [
        judged(arm(placed, 0, times(placed)), arm(placed, 0, times(placed, slower))).state
        for placed in (20, 40, 80, 160, 320, 640, 1280)
    ]
    assert "within" not in states and states[-1] == "broken"
    assert states[2 if slower > 2 else 5] == "broken"


def test_within_means_that_every_upper_bound_is_below_its_limit() -> None:
    """Case J 54."""
    first = judged(arm(100, 0, times(100)), arm(100, 0, times(100)))
    assert first.state == "undecided"
    assert first.reason.startswith("undecided, about ") and " more requests: " in first.reason
    later = judged(arm(4000, 0, times(4000)), arm(4000, 0, times(4000)))
    assert (later.state, later.reason) == ("within", "within its guard")
    assert {each.guard for each in later.comparisons} == {"error_rate", "ttft_p50_ratio", "ttft_p95_ratio"}
    assert all(each.found.high < each.limit for each in later.comparisons)


def test_as_many_more_requests_as_were_named_decide() -> None:
    """Case J 54."""
    first = judged(arm(200, 0, times(200)), arm(200, 0, times(200)))
    more = max(each.more for each in first.comparisons)
    later, sooner = (arm(count, 0, times(count)) for count in (200 + more // 2 + 30, 200 + more // 4))
    assert judged(later, later).state == "within"
    assert judged(sooner, sooner).state == "undecided"


def test_a_candidate_at_its_limit_is_too_close_to_be_decided() -> None:
    verdict = judged(arm(4000, 40), arm(4000, 80))
    assert verdict.state == "undecided" and "too close to its limit to be decided" in verdict.reason


def test_whole_answers_have_a_guard_of_their_own() -> None:
    """Case J 54: without streams there is a latency guard too."""
    slow, sound = times(640, 3.0), times(640)
    verdict = judged(arm(640, whole=sound), arm(640, whole=slow))
    assert verdict.state == "broken" and "e2e_p95_ratio 2.9" in verdict.reason
    hangs = ArmFigures(placed=640, whole_waiting={bucket_of(60.0): 640})
    assert "e2e_p95_ratio" in judged(arm(640, whole=sound), hangs).reason


def test_a_kind_of_request_that_is_rare_is_not_waited_for() -> None:
    few = {bucket_of(0.1): 5}
    verdict = judged(arm(4000, 0, times(3990), whole=few), arm(4000, 0, times(3990), whole=few))
    assert verdict.state == "within"
    common = {bucket_of(0.1): 15}
    verdict = judged(arm(200, 0, times(180), whole=common), arm(200, 0, times(180), whole=common))
    assert (verdict.state, verdict.reason) == ("waiting", "e2e_p95_ratio needs 35 more answers on its smaller arm")


def test_a_guard_that_is_turned_off_is_never_broken() -> None:
    off = CANARY._replace(guard=CanaryGuard(0.0, 0.0, ttft_p50_ratio=0.0, e2e_p95_ratio=0.0, pool_p95_ratio=0.0))
    assert judged(arm(400, 0, times(400)), arm(400, 400, times(400, 90.0)), off).state == "within"


def test_a_candidate_whose_pods_hang_is_found_although_it_has_no_ttft() -> None:
    hangs = ArmFigures(placed=400, waiting={bucket_of(8.0): 390})
    verdict = judged(arm(400, 0, times(400)), hangs)
    assert verdict.state == "broken" and "ttft_p50_ratio" in verdict.reason


def test_streams_that_have_waited_briefly_do_not_count_yet() -> None:
    fresh = ArmFigures(placed=400, ended=300, ttft=times(300), waiting={bucket_of(0.02): 100})
    found = {each.guard: each.found.value for each in judged(arm(400, 0, times(400)), fresh).comparisons}
    assert found["ttft_p50_ratio"] == pytest.approx(1.0)


CROWDED = {
    "baseline": arm(
        400, 0, times(400, 6.0), placed_by=dict.fromkeys(range(100), 4), fuller_by=dict.fromkeys(range(20), 4)
    ),
    "canary": arm(100, 0, times(100, 6.0), placed_by=dict.fromkeys(range(100), 1)),
}


@pytest.mark.parametrize(("fuller", "state"), [(96, "broken"), (20, "undecided")])
def test_the_pool_as_a_whole_is_judged_where_the_candidate_crowds_pods(fuller: int, state: str) -> None:
    """Case J 57: both arms are as slow; a busier hour without crowding breaks nothing."""
    crowding = {
        "canary": arm(
            100, 0, times(100, 6.0), placed_by=dict.fromkeys(range(100), 1), fuller_by=dict.fromkeys(range(fuller), 1)
        )
    }
    verdict = judged(**(CROWDED | crowding), before=times(4000), during=times(500, 6.0))  # type: ignore[arg-type]
    assert verdict.state == state
    assert ("pool_p95_ratio 5." in verdict.reason) is (state == "broken")
    assert "pool_p95_ratio" in {each.guard for each in verdict.comparisons}


def test_a_policy_that_fails_is_broken_before_there_are_enough_requests() -> None:
    verdict = judged(arm(20), arm(10, policy_failures=6))
    assert verdict.state == "broken"
    assert verdict.reason.startswith("broken: policy_failures 60 % (")


def test_occasional_slow_picks_break_nothing() -> None:
    assert judged(arm(100_000), arm(100_000, policy_failures=20)).state == "within"
    assert judged(arm(20), arm(10, policy_failures=4)).state == "waiting"


def test_all_shares_of_one_candidate_spend_one_budget() -> None:
    """Case J 56."""
    assert sum(spent(CANARY._replace(stage=stage)) for stage in range(10_000)) == pytest.approx(0.05, rel=1e-3)


def test_an_estimate_does_not_look_like_a_count() -> None:
    assert [rounded(number) for number in (0.2, 87.3, 1234.0)] == [1, 87, 1200]


EDGE = CanaryGuard(1e-9, 1.0 + 1e-9, ttft_p50_ratio=1.0 + 1e-9, e2e_p95_ratio=0.0, pool_p95_ratio=0.0)
"""Limits exactly at an A/A canary's true figures: every excess is random."""


@pytest.mark.slow
@pytest.mark.parametrize("number", [0, 20, 60])
def test_an_a_a_canary_at_its_limits_is_taken_back_as_seldom_as_stated_over_a_whole_ramp(number: int) -> None:
    """Cases J 55 and 56: looked at every second; `make bench-trials` plays a thousand of each."""
    runs, plan = 12, Plan((10.0, 25.0, 50.0), 800, EDGE)
    traffic = [
        heavy_sessions(number, number // 10, number // 20, seed) if number else independent() for seed in range(runs)
    ]
    wrong = sum(bool(play(each, plan, seed + 1).reason) for seed, each in enumerate(traffic))
    assert wrong <= 0.05 * runs + five_deviations(runs, 0.05)


@pytest.mark.slow
def test_a_candidate_that_fails_three_percent_is_found_by_the_defaults() -> None:
    """Case J 57: it was found 4 of 60 times in 5,000 requests at 20 %."""
    runs = [play(independent(failing=0.03), Plan((20.0,), 5000, CanaryGuard()), seed) for seed in range(1, 13)]
    found = [run for run in runs if run.reason.startswith("broken: error_rate")]
    # Of a thousand, 88 % were found; half of twelve are fewer with a probability of 1e-4.
    assert len(found) >= 6
