"""What is read of the gateway's answers."""

from __future__ import annotations

import pytest

from router.cli.fleet_reading import Reading, quantile, read, recent

PODS: list[dict[str, object]] = [
    {"id": "a:1", "inflight": 3, "queued": 1, "running": 2, "kv_usage": 0.25, "routable": True, "pool": "demo"},
    {"id": "b:2", "inflight": 0, "queued": 0, "running": 0, "kv_usage": 0.0, "routable": False, "blockers": ["probe"]},
]


def metrics(requests: int, failed: int, hits: int, fast: int, slow: int) -> str:
    return f"""\
# TYPE turnout_requests counter
turnout_requests_total{{pool="demo",policy="p2c",pod="a:1",status="200"}} {requests}
turnout_requests_total{{pool="demo",policy="p2c",pod="b:2",status="503"}} {failed}
# TYPE turnout_prefix_cache_queries counter
turnout_prefix_cache_queries_total{{pool="demo"}} {requests * 100}
# TYPE turnout_prefix_cache_hits counter
turnout_prefix_cache_hits_total{{pool="demo"}} {hits}
# TYPE turnout_time_to_first_token_seconds histogram
turnout_time_to_first_token_seconds_bucket{{pool="demo",le="0.1"}} {fast}
turnout_time_to_first_token_seconds_bucket{{pool="demo",le="0.2"}} {fast + slow}
turnout_time_to_first_token_seconds_bucket{{pool="demo",le="+Inf"}} {fast + slow}
turnout_time_to_first_token_seconds_count{{pool="demo"}} {fast + slow}
turnout_time_to_first_token_seconds_sum{{pool="demo"}} 1
"""


POOLS: list[dict[str, object]] = [{"name": "demo", "policy": "p2c"}]
BEFORE = read(10.0, PODS, POOLS, metrics(100, 1, 1000, fast=100, slow=0))
NOW = read(15.0, PODS, POOLS, metrics(200, 2, 8500, fast=150, slow=50))


def test_a_reading_has_each_pods_requests_and_load() -> None:
    assert [(pod.id, pod.requests, pod.inflight, pod.trouble) for pod in NOW.pods] == [
        ("a:1", 200, 3, ""),
        ("b:2", 2, 0, "probe"),
    ]
    assert (NOW.requests, NOW.failed, NOW.policy) == (202, 2, "p2c")


def test_a_pod_that_fails_and_is_kept_does_not_look_well() -> None:
    """Case H 37."""
    dead = [{**PODS[0], "kept": ["probe"]}]
    assert [pod.trouble for pod in read(10.0, dead, POOLS, "").pods] == ["failing"]


def test_rates_are_computed_between_two_readings() -> None:
    what = recent(NOW, BEFORE)
    assert what.rate == pytest.approx(101 / 5)
    assert what.hit_rate == pytest.approx(0.75)
    assert what.ttft_p50_s == pytest.approx(0.1)
    assert what.ttft_p90_s == pytest.approx(0.18)


def test_a_single_reading_has_no_rate() -> None:
    assert recent(NOW, NOW) == (0.0, None, None, None)


def test_a_gateway_that_has_served_nothing_can_be_shown() -> None:
    empty = read(1.0, PODS, POOLS, "")
    assert isinstance(empty, Reading)
    assert (empty.requests, empty.ttft) == (0, ())


def test_a_quantile_above_the_last_bound_is_shown_as_that_bound() -> None:
    assert quantile([(0.1, 0.0), (float("inf"), 4.0)], 0.5) == 0.1
