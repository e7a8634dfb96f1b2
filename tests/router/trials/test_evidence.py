"""Evidence under its hypothesis, however often it is looked at, and against it."""

from __future__ import annotations

import math
import random

import pytest

from router.trials.durations import GROWTH, Durations
from router.trials.evidence import P50, P95, Quantile, Tail, Tally, against_excess, against_shift, excess, shift
from tests.fakes.chance import five_deviations

PER_LOG = 1.0 / math.log(GROWTH)
ODDS = math.log(20.0)
"""An error of 5 %."""


def tail(values: list[float], weight: float = 1.0) -> Tail:
    seen = Durations()
    for value in values:
        seen.observe(value)
    return Tail(seen.counts, weight)


@pytest.mark.parametrize("limit", [0.0, pytest.param(0.05, marks=pytest.mark.slow)])
def test_a_share_at_its_limit_is_ever_found_above_it_as_seldom_as_stated(limit: float) -> None:
    """Case J 57: it is looked at after every request."""
    rng, wrong, runs = random.Random(7), 0, 200
    for _ in range(runs):
        hits, of = [0, 0], [0, 0]
        for _ in range(300):
            arm = rng.random() < 0.3
            of[arm] += 1
            hits[arm] += rng.random() < 0.05 + (limit if arm else 0.0)
            if all(of) and against_excess(Tally(hits[1], of[1]), Tally(hits[0], of[0]), limit, above=True) >= ODDS:
                wrong += 1
                break
    assert wrong <= 0.05 * runs + five_deviations(runs, 0.05)


@pytest.mark.parametrize("of", [P50, pytest.param(P95, marks=pytest.mark.slow)])
def test_a_quantile_at_its_limit_is_ever_found_above_it_as_seldom_as_stated(of: Quantile) -> None:
    rng, wrong, runs = random.Random(8), 0, 60
    for _ in range(runs):
        arms = Durations(), Durations()
        for at in range(1200):
            slow = at % 3 == 0
            arms[slow].observe(rng.lognormvariate(-2.0, 0.9) * (1.2 if slow else 1.0))
            if at % 20 == 19:
                one, other = Tail(arms[1].counts, 1.0), Tail(arms[0].counts, 1.0)
                if against_shift(one, other, of, math.log(1.2) * PER_LOG, above=True) >= ODDS:
                    wrong += 1
                    break
    assert wrong <= 0.05 * runs + five_deviations(runs, 0.05)


def test_a_share_is_refuted_on_the_side_where_it_is_not() -> None:
    one, other = Tally(60, 1000), Tally(10, 1000)
    assert against_excess(one, other, 0.01, above=True) > ODDS
    assert against_excess(one, other, 0.01, above=False) < 0
    assert against_excess(one, other, 0.15, above=False) > ODDS
    assert against_excess(Tally(0, 0), other, 0.01, above=True) <= 0


def test_the_bounds_of_a_share_are_the_limits_that_are_not_refuted() -> None:
    one, other = Tally(60, 1000), Tally(10, 1000)
    found = excess(one, other, ODDS)
    assert found.value == pytest.approx(0.05) and 0.015 < found.low < 0.05 < found.high < 0.09
    assert against_excess(one, other, found.low - 0.001, above=True) > ODDS
    assert against_excess(one, other, found.high + 0.001, above=False) > ODDS
    assert against_excess(one, other, found.low + 0.001, above=True) < ODDS


def test_the_bounds_of_a_ratio_hold_the_true_one_and_narrow() -> None:
    rng, widths = random.Random(9), []
    for size in (200, 2000):
        values = [rng.lognormvariate(-2.0, 0.9) for _ in range(2 * size)]
        found = shift(tail([2 * each for each in values[:size]]), tail(values[size:]), P95, ODDS, PER_LOG)
        assert found.low < 2.0 < found.high
        widths.append(found.high / found.low)
    assert widths[1] < widths[0] / 1.5


def test_too_few_durations_bound_a_quantile_on_no_side() -> None:
    found = shift(tail([0.1] * 5), tail([0.1] * 5), P95, ODDS, PER_LOG)
    assert (found.low, found.high) == (0.0, math.inf)


def test_gross_harm_shows_in_a_few_requests() -> None:
    """Case J 54: ten times the time to first token."""
    values = [0.08, 0.1, 0.12] * 10
    slow = tail([10 * each for each in values[:15]])
    assert against_shift(slow, tail(values), P50, math.log(2.0) * PER_LOG, above=True) > ODDS


def test_requests_that_are_alike_are_less_evidence() -> None:
    values = [0.08, 0.1, 0.12] * 40
    slow = [3 * each for each in values]
    alone, alike = (
        against_shift(tail(slow, weight), tail(values, weight), P50, 0.0, above=True) for weight in (1.0, 0.1)
    )
    assert alike < alone / 5


def test_a_point_inside_a_bucket_has_a_part_of_it_beyond() -> None:
    counts = Tail({10: 4, 12: 4}, 0.5)
    assert counts.beyond(9.0) == Tally(4.0, 4.0)
    assert counts.beyond(10.5) == Tally(3.0, 4.0)
    assert counts.beyond(13.0) == Tally(0.0, 4.0)
    assert counts.edge(0.25) == pytest.approx(12.5)


@pytest.mark.parametrize("of", [P50, P95])
@pytest.mark.parametrize("ratio", [1.5, 30.0, 1e9])
def test_equal_arms_are_never_evidence_of_a_ratio_however_far_its_limit_and_narrow_their_times(
    of: Quantile, ratio: float
) -> None:
    """All times are in one bucket, in which the share beyond a point changes steeply."""
    arm, by = Tail({330: 20_000}, 1.0), math.log(ratio) * PER_LOG
    assert against_shift(arm, arm, of, by, above=True) < 0.0
    assert against_shift(arm, arm, of, -by, above=False) < 0.0
