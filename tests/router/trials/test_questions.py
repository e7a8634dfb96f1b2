"""What the guards of a canary ask: which tests there are, and by how many requests each is judged."""

from __future__ import annotations

import pytest

from router.trials.clusters import cell
from router.trials.durations import bucket_of
from router.trials.figures import ArmFigures, TrialFigures
from router.trials.questions import questions
from statesync.store.policy_record import CanaryGuard

FAST, SLOW = bucket_of(0.1), bucket_of(1.0)


def asked(baseline: ArmFigures, canary: ArmFigures, guard: CanaryGuard | None = None) -> dict[str, float]:
    """The size of each test."""
    figures = TrialFigures(baseline=baseline, canary=canary)
    return {test.guard: test.size for test in questions(guard or CanaryGuard(), figures)}


def test_each_guard_that_is_on_and_has_figures_is_a_test() -> None:
    both = ArmFigures(placed=90, ended=90, left=10, ttft={FAST: 50}, whole={FAST: 30}, tpot={FAST: 40})
    sizes = {"error_rate": 80, "ttft_p50_ratio": 50, "ttft_p95_ratio": 50, "e2e_p95_ratio": 30, "tpot_p50_ratio": 40}
    assert asked(both, both) == sizes
    off = CanaryGuard(error_rate=0.0, e2e_p95_ratio=0.0, ttft_p50_ratio=0.0, tpot_p50_ratio=0.0)
    assert asked(both, both, off) == {"ttft_p95_ratio": 50}
    assert asked(ArmFigures(), ArmFigures()) == {}


def test_a_kind_of_request_that_one_arm_alone_has_is_waited_for() -> None:
    streams, none = ArmFigures(placed=90, ended=90, ttft={FAST: 90}), ArmFigures(placed=90, ended=90)
    assert asked(streams, none)["ttft_p95_ratio"] == 0
    assert "ttft_p95_ratio" not in asked(none, none)


def test_durations_by_cluster_decide_how_much_a_request_says() -> None:
    """Case J 55: two of ten sessions are slow, with all their requests."""
    each = {at: SLOW if at < 2 else FAST for at in range(10)}
    arm = ArmFigures(
        placed=200, ended=200, ttft={FAST: 160, SLOW: 40}, ttft_by={cell(at, to): 20 for at, to in each.items()}
    )
    sessions, requests = (
        next(test for test in questions(CanaryGuard(), TrialFigures(baseline=one, canary=one)) if "p95" in test.guard)
        for one in (arm, ArmFigures(placed=200, ended=200, ttft=arm.ttft))
    )
    assert sessions.value == requests.value == pytest.approx(1.0)
    assert sessions.against(20.0, False) == pytest.approx(requests.against(1.0, False), rel=0.2)
