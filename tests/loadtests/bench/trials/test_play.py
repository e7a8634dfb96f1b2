"""Candidates in virtual time."""

from __future__ import annotations

import random

from loadtests.bench.trials.play import (
    Plan,
    answers,
    decoding,
    heavy_sessions,
    independent,
    one_pod,
    play,
    share_failed,
)
from statesync.store.policy_record import CanaryGuard


def test_a_run_is_the_same_again_and_a_gross_candidate_is_taken_back_within_seconds() -> None:
    plan = Plan((20.0,), 2000, CanaryGuard())
    found = play(independent(slower=10.0), plan, 3)
    assert found == play(independent(slower=10.0), plan, 3)
    assert "ttft_p50_ratio" in found.reason and found.requests < 500
    assert found.affected < found.requests


def test_a_candidate_whose_tokens_come_a_fifth_slower_is_taken_back_by_their_guard_alone() -> None:
    """Case J 59."""
    only = CanaryGuard(tpot_p50_ratio=1.0 + 1e-9)
    found = play(decoding(slower=1.2), Plan((50.0,), 2000, only), 4)
    assert "tpot_p50_ratio" in found.reason and found.requests < 1000
    assert play(decoding(), Plan((50.0,), 2000, only), 4).reason == ""


def test_a_session_is_slow_or_fails_whichever_policy_decides() -> None:
    traffic, rng = heavy_sessions(40, 2, 2, 1), random.Random(1)
    failed = {
        f"1/{at}" for at in range(40) if all(traffic.answer(rng, f"1/{at}", at % 2 == 0).failed for _ in range(9))
    }
    assert len(failed) == 2
    assert share_failed(independent(failing=0.5), True, 400) > 0.4


def test_a_pod_that_gets_all_of_a_candidate_serves_it_slower() -> None:
    baseline, candidate = ([each.ttft_s for each in arm] for arm in answers(one_pod(), 0.2, 4000))
    assert sorted(candidate)[len(candidate) // 2] > sorted(baseline)[len(baseline) // 2]
