"""Intervals compared with published figures, and with their stated coverage."""

from __future__ import annotations

import math
import random

import pytest

from router.trials.durations import Durations
from router.trials.intervals import (
    Interval,
    PairSums,
    difference,
    duration,
    exact_share,
    mean,
    ranks,
    ratio,
    ratio_of_sums,
    share,
)
from tests.fakes.chance import five_deviations


def test_wilson_s_interval_is_the_published_one() -> None:
    # Newcombe 1998 (first of the two papers), table I, method 3: 81/263 and 15/148.
    assert share(81, 263, 0.025)[1:] == pytest.approx((0.2553, 0.3662), abs=1e-4)
    assert share(15, 148, 0.025)[1:] == pytest.approx((0.0624, 0.1605), abs=1e-4)
    assert share(0, 20, 0.025)[1:] == pytest.approx((0.0, 0.1611), abs=1e-4)
    assert share(1, 29, 0.025)[1:] == pytest.approx((0.0061, 0.1718), abs=1e-4)


def test_newcombe_s_difference_is_the_published_one() -> None:
    # Newcombe 1998 (second paper), table II, method 10: 56/70 against 48/80, and 9/10 against 3/10.
    assert difference(share(56, 70, 0.025), share(48, 80, 0.025))[1:] == pytest.approx((0.0524, 0.3339), abs=1e-4)
    assert difference(share(9, 10, 0.025), share(3, 10, 0.025))[1:] == pytest.approx((0.1705, 0.8090), abs=1e-4)


def test_the_exact_interval_is_the_published_one() -> None:
    # Newcombe 1998 (first paper), table I, method 5: the same four samples.
    assert exact_share(81, 263, 0.025)[1:] == pytest.approx((0.2527, 0.3676), abs=1e-4)
    assert exact_share(15, 148, 0.025)[1:] == pytest.approx((0.0578, 0.1617), abs=1e-4)
    assert exact_share(0, 20, 0.025)[1:] == pytest.approx((0.0, 0.1684), abs=1e-4)
    assert exact_share(1, 29, 0.025)[1:] == pytest.approx((0.0009, 0.1776), abs=1e-4)
    assert exact_share(20, 20, 0.025).high == 1.0


def test_no_samples_give_the_whole_interval_and_all_hits_an_upper_bound_of_one() -> None:
    assert share(0, 0, 0.05) == Interval(0.0, 0.0, 1.0)
    assert share(5, 5, 0.05).high == 1.0
    assert share(0, 5, 0.05).low == 0.0


def test_ranks_of_a_median_are_those_of_the_binomial_table() -> None:
    # Conover's sign-test table: of 16 values the 4th and the 13th bound the median with 97.9 %.
    assert ranks(16, 0.5, 0.025) == (4, 13)
    assert ranks(5, 0.5, 0.025) == (0, 6)


def test_a_high_quantile_of_few_values_has_no_upper_bound() -> None:
    few, many = Durations(), Durations()
    for at in range(50):
        few.observe(0.1 + at / 100)
    for at in range(200):
        many.observe(0.1 + at / 100)
    bounds = duration(few.counts, 0.95, 0.025)
    assert bounds is not None and bounds.high == math.inf and 0.3 < bounds.low < 0.6
    bounds = duration(many.counts, 0.95, 0.025)
    assert bounds is not None and bounds.low < 2.0 < bounds.high < math.inf
    assert duration({}, 0.5, 0.05) is None


def test_ranks_of_a_million_are_found_without_a_million_steps_and_agree_with_the_normal_ones() -> None:
    below, above = ranks(1_000_000, 0.95, 0.025)
    spread = 1.96 * math.sqrt(1_000_000 * 0.95 * 0.05)
    assert below == pytest.approx(950_000 - spread, abs=3)
    assert above == pytest.approx(950_000 + spread, abs=3)


def test_the_interval_of_a_ratio_of_p95s_has_its_stated_coverage() -> None:
    rng, held, runs = random.Random(3), 0, 300
    for _ in range(runs):
        arms = []
        for scale in (2.0, 1.0):
            seen = Durations()
            for _ in range(400):
                seen.observe(scale * rng.lognormvariate(-1.0, 0.8))
            arms.append(duration(seen.counts, 0.95, 0.05))
        assert arms[0] is not None and arms[1] is not None
        found = ratio(arms[0], arms[1])
        held += found.low <= 2.0 <= found.high
    # 90 % is stated. The bounds are outer edges of buckets, so 97.6 % are covered, which is eight deviations above.
    assert held / runs >= 0.90


def test_an_unbounded_side_leaves_a_ratio_unbounded() -> None:
    found = ratio(Interval(2.0, 1.0, math.inf), Interval(1.0, 0.5, math.inf))
    assert found.value == pytest.approx(2.0)
    assert found[1:] == (0.0, math.inf)


def test_a_mean_is_bounded_by_its_standard_error() -> None:
    values = [1.0, 2.0, 3.0, 4.0]
    found = mean(4, sum(values), sum(value * value for value in values), 0.025)
    assert found is not None
    assert found == pytest.approx((2.5, 2.5 - 1.96 * 0.6455, 2.5 + 1.96 * 0.6455), abs=1e-3)
    assert mean(0, 0.0, 0.0, 0.05) is None
    assert mean(1, 3.0, 9.0, 0.05) == Interval(3.0, 0.0, math.inf)


def test_the_interval_of_a_hit_rate_has_its_stated_coverage() -> None:
    rng, held, runs = random.Random(5), 0, 1400
    for _ in range(runs):
        pairs = [(rng.choice((0, 0, size)), size) for size in (rng.randint(10, 1000) for _ in range(300))]
        sums = PairSums(
            len(pairs),
            sum(hit for hit, _ in pairs),
            sum(size for _, size in pairs),
            sum(hit * hit for hit, _ in pairs),
            sum(size * size for _, size in pairs),
            sum(hit * size for hit, size in pairs),
        )
        found = ratio_of_sums(sums, 0.025)
        held += found.low <= 1 / 3 <= found.high
    assert held >= 0.95 * runs - five_deviations(runs, 0.95)
