"""What is counted under which key."""

from __future__ import annotations

from router.telemetry.metrics import Metrics


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


def test_a_pool_keeps_its_numbers_between_uses() -> None:
    metrics = Metrics()
    metrics.pool("a").ttft.observe(0.2)
    metrics.pool("a").bytes_out += 5
    assert metrics.pool("a").ttft.count == 1
    assert [(name, pool.bytes_out) for name, pool in metrics.pools] == [("a", 5)]


def test_a_pod_that_is_gone_for_good_takes_its_series_with_it() -> None:
    metrics = Metrics()
    for pod in ("x:1", "x:2"):
        metrics.count_request("a", "p2c", pod, 200)
        metrics.count_ejection(pod, "connect")
    metrics.forget_pods({"x:1"})
    assert list(metrics.requests) == [("a", "p2c", "x:2", 200)]
    assert list(metrics.ejections) == [("x:2", "connect")]
