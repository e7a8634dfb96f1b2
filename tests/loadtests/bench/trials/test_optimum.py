"""The least that any always-valid test needs."""

from __future__ import annotations

import math

import pytest

from loadtests.bench.trials.optimum import divergence, of_quantiles, of_shares


def test_divergence_is_kullback_and_leibler_s() -> None:
    assert divergence(0.3, 0.3) == 0.0
    assert divergence(0.0, 0.5) == pytest.approx(math.log(2.0))
    assert divergence(1.0, 0.25) == pytest.approx(math.log(4.0))


def test_a_share_needs_more_than_if_the_other_arm_s_were_known() -> None:
    known = math.log(20.0) / (0.2 * divergence(0.03, 0.01))
    assert 0.999 * known < of_shares(0.0, 0.03, 0.01, 0.2, 0.05) < 1.5 * known
    assert of_shares(0.02, 0.05, 0.01, 0.2, 0.05) > 1.2 * math.log(20.0) / (0.2 * divergence(0.05, 0.03))


def test_a_quantile_needs_more_the_nearer_the_candidate_is_to_the_limit() -> None:
    times = [math.exp(at / 1000) for at in range(-2000, 2000)]
    found = [of_quantiles(times, [by * each for each in times], 1.5, 0.5, 0.2, 0.01) for by in (4.0, 2.0, 1.0)]
    assert 2 * found[0] < found[1] < found[2] / 10
