"""Every counter with labels: as many values as names, copied from the live dicts."""

from __future__ import annotations

from collections.abc import Mapping

from router.telemetry.counts import counters
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


def samples(metrics: Metrics, clusters: Mapping[str, str]) -> dict[str, list[tuple[dict[str, str], float]]]:
    return {each.name: [(s.labels, s.value) for s in each.samples()] for each in counters(metrics, clusters)}


def test_each_counter_is_shown_under_its_labels() -> None:
    by_name = samples(counted(), {"near": "east"})
    assert by_name["turnout_fallbacks"] == [({"from": "near", "to": "far", "reason": "no_pod"}, 1)]
    assert by_name["turnout_slo_requests"] == [({"pool": "near", "result": "kept"}, 1)]
    assert by_name["turnout_cluster_requests"] == [({"cluster": "east", "status_class": "2xx"}, 1)]
    assert all(value >= 1 for rows in by_name.values() for _, value in rows)


def test_later_counts_are_in_the_next_scrape() -> None:
    metrics = counted()
    before = {each.name: each for each in counters(metrics, {})}
    metrics.count_retry("far", "reset")
    assert len(list(before["turnout_retries"].samples())) == 1
    assert len(samples(metrics, {})["turnout_retries"]) == 2
