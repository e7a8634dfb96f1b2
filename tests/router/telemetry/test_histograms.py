"""Histograms by pool with the traces that explain them, and by cluster as sums of their pools."""

from __future__ import annotations

from prometheus_client.samples import Sample

from router.telemetry.histograms import by_cluster, by_pool
from router.telemetry.metrics import Metrics

CLUSTERS = {"near": "east", "next": "east", "far": "west", "plain": ""}
TTFT = "turnout_cluster_time_to_first_token_seconds"


def counted() -> Metrics:
    metrics = Metrics()
    for pool, value in (("near", 0.02), ("next", 0.02), ("next", 3.0), ("far", 0.1), ("plain", 9.0)):
        metrics.pool(pool).ttft.observe(value)
    return metrics


def value(samples: list[Sample], name: str, **labels: str) -> float:
    (only,) = [sample.value for sample in samples if sample.name == name and labels.items() <= sample.labels.items()]
    return only


def test_the_pools_of_a_cluster_are_summed() -> None:
    families = {family.name: list(family.samples()) for family in by_cluster(counted(), CLUSTERS)}
    samples = families[TTFT]
    assert value(samples, TTFT + "_count", cluster="east") == 3
    assert value(samples, TTFT + "_bucket", cluster="east", le="0.02") == 2
    assert value(samples, TTFT + "_bucket", cluster="east", le="+Inf") == 3
    assert value(samples, TTFT + "_sum", cluster="east") == 3.04
    assert value(samples, TTFT + "_count", cluster="west") == 1
    assert {sample.labels["cluster"] for sample in samples} == {"east", "west"}
    assert "turnout_cluster_request_latency_seconds" in families


def test_without_clusters_there_are_no_histograms_of_them() -> None:
    assert list(by_cluster(counted(), {"near": "", "far": ""})) == []


def test_a_bucket_names_the_last_traced_request_in_it() -> None:
    metrics = counted()
    for trace_id in ("a" * 32, "b" * 32):
        metrics.pool("near").ttft.observe(0.02)
        metrics.pool("near").ttft.mark(0.02, trace_id, 1.5)
    family = next(family for family in by_pool(metrics) if family.name == "turnout_time_to_first_token_seconds")
    marked = [(sample.labels, sample.exemplar) for sample in family.samples() if sample.exemplar]
    assert [(labels, mark.labels, mark.value) for labels, mark in marked] == [
        ({"pool": "near", "le": "0.02"}, {"trace_id": "b" * 32}, 0.02)
    ]
