"""Intervals compared with published figures, and with their stated coverage."""

from __future__ import annotations

import math
import random

import pytest

from router.trials.durations import Durations
from router.trials.evidence import Interval
from router.trials.intervals import duration, mean, ratio_of_sums, share
from tests.fakes.chance import five_deviations


def test_wilson_s_interval_is_the_published_one() -> None:
    # Newcombe 1998 (first of the two papers), table I, method 3: 81/263 and 15/148.
    assert share(81, 263, 0.025)[1:] == pytest.approx((0.2553, 0.3662), abs=1e-4)
    assert share(15, 148, 0.025)[1:] == pytest.approx((0.0624, 0.1605), abs=1e-4)
    assert share(0, 20, 0.025)[1:] == pytest.approx((0.0, 0.1611), abs=1e-4)
    assert share(1, 29, 0.025)[1:] == pytest.approx((0.0061, 0.1718), abs=1e-4)


def test_no_samples_give_the_whole_interval_and_all_hits_an_upper_bound_of_one() -> None:
    assert share(0, 0, 0.05) == Interval(0.0, 0.0, 1.0)
    assert share(5, 5, 0.05).high == 1.0
    assert share(0, 5, 0.05).low == 0.0


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


def test_the_interval_of_a_p95_has_its_stated_coverage() -> None:
    rng, held, runs = random.Random(3), 0, 300
    true = math.exp(-1.0 + 0.8 * 1.6449)
    for _ in range(runs):
        seen = Durations()
        for _ in range(400):
            seen.observe(rng.lognormvariate(-1.0, 0.8))
        found = duration(seen.counts, 0.95, 0.05)
        assert found is not None
        held += found.low <= true <= found.high
    assert held >= 0.90 * runs - five_deviations(runs, 0.90)


def test_requests_that_say_less_have_wider_bounds() -> None:
    seen = Durations()
    for at in range(400):
        seen.observe(0.1 + at / 100)
    alone, alike = (duration(seen.counts, 0.5, 0.025, weight) for weight in (1.0, 0.1))
    assert alone is not None and alike is not None
    assert alike.low < alone.low < alone.value == alike.value < alone.high < alike.high
    wide, narrow = (mean(400, 40.0, 8.0, 0.025, weight) for weight in (0.25, 1.0))
    assert wide is not None and narrow is not None
    assert wide.high - wide.value == pytest.approx(2 * (narrow.high - narrow.value))


def test_a_mean_is_bounded_by_its_standard_error() -> None:
    values = [1.0, 2.0, 3.0, 4.0]
    found = mean(4, sum(values), sum(value * value for value in values), 0.025)
    assert found is not None
    assert found == pytest.approx((2.5, 2.5 - 1.96 * 0.6455, 2.5 + 1.96 * 0.6455), abs=1e-3)
    assert mean(0, 0.0, 0.0, 0.05) is None
    assert mean(1, 3.0, 9.0, 0.05) == Interval(3.0, 0.0, math.inf)


def test_the_interval_of_a_hit_rate_has_its_stated_coverage() -> None:
    rng, held, runs = random.Random(5), 0, 1000
    for _ in range(runs):
        pairs = [(rng.choice((0, 0, size)), size) for size in (rng.randint(10, 1000) for _ in range(120))]
        hits = {at: hit for at, (hit, _) in enumerate(pairs) if hit}
        found = ratio_of_sums(hits, {at: size for at, (_, size) in enumerate(pairs)}, 0.025)
        held += found.low <= 1 / 3 <= found.high
    assert held >= 0.95 * runs - five_deviations(runs, 0.95)
    assert ratio_of_sums({0: 1}, {0: 4}, 0.025) == Interval(0.25, 0.0, 1.0)
