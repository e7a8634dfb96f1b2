"""Counters by key, and histogram buckets compared with a naive count."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.telemetry.metrics import Histogram, Metrics


def test_requests_are_counted_by_pool_policy_pod_and_status() -> None:
    metrics = Metrics()
    metrics.count_request("a", "p2c", "x:1", 200)
    metrics.count_request("a", "p2c", "x:1", 200)
    metrics.count_request("a", "p2c", "x:1", 502)
    assert metrics.requests == {("a", "p2c", "x:1", 200): 2, ("a", "p2c", "x:1", 502): 1}


def test_retries_ejections_and_rejections_are_counted_by_reason() -> None:
    metrics = Metrics()
    metrics.count_retry("a", "connect")
    metrics.count_ejection("x:1", "connect")
    metrics.count_rejection("a", "saturated")
    metrics.count_rejection("a", "saturated")
    assert metrics.retries == {("a", "connect"): 1}
    assert metrics.ejections == {("x:1", "connect"): 1}
    assert metrics.rejections == {("a", "saturated"): 2}


def test_a_pool_keeps_its_counts_between_uses() -> None:
    metrics = Metrics()
    metrics.pool("a").ttft.observe(0.2)
    metrics.pool("a").bytes_out += 5
    assert metrics.pool("a").ttft.count == 1
    assert [(name, pool.bytes_out) for name, pool in metrics.pools] == [("a", 5)]


def test_the_series_of_a_removed_pod_are_removed() -> None:
    metrics = Metrics()
    for pod in ("x:1", "x:2"):
        metrics.count_request("a", "p2c", pod, 200)
        metrics.count_ejection(pod, "connect")
    metrics.forget_pods({"x:1"})
    assert list(metrics.requests) == [("a", "p2c", "x:2", 200)]
    assert list(metrics.ejections) == [("x:2", "connect")]


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
