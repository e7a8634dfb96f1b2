"""Bounds and chances against published tables, and their error rate by simulation."""

from __future__ import annotations

import random

import pytest

from loadtests.prove.confidence import chance_of, interval, t_quantile


@pytest.mark.parametrize(
    ("share", "degrees", "value"),
    [(0.975, 1, 12.706), (0.95, 4, 2.132), (0.995, 9, 3.250), (0.999, 2, 22.327), (0.975, 120, 1.980)],
)
def test_quantiles_are_those_of_the_tables(share: float, degrees: int, value: float) -> None:
    assert t_quantile(share, degrees) == pytest.approx(value, abs=1e-3)


def test_an_interval_lies_around_the_mean_and_narrows_with_more_values() -> None:
    few, many = interval([1.0, 2.0, 3.0], 0.05), interval([1.0, 2.0, 3.0] * 4, 0.05)
    assert few.mean == many.mean == 2.0
    assert few.low < many.low < 2.0 < many.high < few.high


def test_a_bound_is_wrong_as_often_as_its_level_says() -> None:
    rng, runs = random.Random(1), 400
    wrong = sum(interval([rng.gauss(0.0, 1.0) for _ in range(5)], 0.05).low > 0.0 for _ in range(runs))
    assert 0.02 < wrong / runs < 0.08


def test_equal_counts_are_likely_and_ten_to_none_is_not() -> None:
    assert chance_of(5, 5) > 0.5
    assert chance_of(10, 0) == pytest.approx(1 / 1024)
    assert chance_of(0, 0) == 1.0
