"""Every counter with labels: as many values as names, copied from the live dicts."""

from __future__ import annotations

from router.telemetry.counts import labelled
from router.telemetry.metrics import Metrics


def counted() -> Metrics:
    metrics = Metrics()
    metrics.count_request("near", "p2c", "pod", 200)
    metrics.count_retry("near", "connect")
    metrics.count_ejection("pod", "probe")
    metrics.count_rejection("near", "saturated")
    metrics.count_fallback("near", "far", "no_pod")
    metrics.count_slo("near", "kept")
    return metrics


def test_each_counter_has_a_value_for_each_label() -> None:
    for name, _, counts, labels in labelled(counted(), {"near": "east"}):
        for values, count in counts:
            assert len(values) == len(labels), name
            assert count >= 1


def test_fall_backs_and_clusters_are_among_them() -> None:
    by_name = {each.name: each for each in labelled(counted(), {"near": "east"})}
    assert by_name["turnout_fallbacks"].counts == [(("near", "far", "no_pod"), 1)]
    assert by_name["turnout_slo_requests"].counts == [(("near", "kept"), 1)]
    assert by_name["turnout_cluster_requests"].counts == [(("east", "2xx"), 1)]


def test_later_counts_are_in_the_next_scrape() -> None:
    metrics = counted()
    before = labelled(metrics, {})
    metrics.count_retry("far", "reset")
    assert len({each.name: each for each in before}["turnout_retries"].counts) == 1
