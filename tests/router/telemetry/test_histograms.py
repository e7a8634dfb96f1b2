"""Histogram buckets against a naive count."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.telemetry.histograms import Histogram


def test_a_value_on_a_bound_belongs_to_that_bucket_as_le_says() -> None:
    histogram = Histogram([1.0, 2.0])
    for value in (0.5, 1.0, 1.5, 2.0, 2.5):
        histogram.observe(value)
    assert histogram.cumulative() == [2, 4, 5]
    assert histogram.count == 5
    assert histogram.sum == 7.5


@given(st.lists(st.floats(0, 1e6), max_size=50))
def test_each_bucket_counts_the_values_at_or_below_its_bound(values: list[float]) -> None:
    bounds = [0.001, 0.1, 1.0, 50.0, 1e5]
    histogram = Histogram(bounds)
    for value in values:
        histogram.observe(value)
    naive = [sum(value <= bound for value in values) for bound in [*bounds, math.inf]]
    assert histogram.cumulative() == naive


def test_a_quantile_is_the_bound_of_its_bucket() -> None:
    histogram = Histogram([1.0, 2.0, 4.0])
    assert histogram.quantile(0.5) == 0.0
    for value in (0.5, 0.5, 1.5, 3.0):
        histogram.observe(value)
    assert [histogram.quantile(q) for q in (0.5, 0.75, 0.99)] == [1.0, 2.0, 4.0]
    histogram.observe(9.0)
    assert histogram.quantile(1.0) == math.inf


@pytest.mark.parametrize("bounds", [[], [1.0, 1.0], [2.0, 1.0]])
def test_bounds_that_do_not_ascend_are_refused(bounds: list[float]) -> None:
    with pytest.raises(ValueError, match="ascend"):
        Histogram(bounds)
