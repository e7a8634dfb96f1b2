"""The samples of all histograms: of each pool, and summed by cluster, both at scrape time. Buckets carry the exemplars
of traced requests; only OpenMetrics shows those.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial

from prometheus_client import samples as prometheus
from prometheus_client.samples import Sample

from router.telemetry.family import Family, buckets
from router.telemetry.metrics import Histogram, Metrics, PoolMetrics

_TTFT = "From a request's arrival to its first token."
_E2E = "From a request's arrival to the end of its answer."

_BY_POOL: Sequence[tuple[str, str, Callable[[PoolMetrics], Histogram]]] = (
    ("turnout_time_to_first_token_seconds", _TTFT, lambda pool: pool.ttft),
    ("turnout_time_to_first_token_prediction_ratio", "Found over predicted at the pick.", lambda pool: pool.ttft_ratio),
    ("turnout_inter_token_latency_seconds", "Between two tokens of a stream.", lambda pool: pool.itl),
    ("turnout_e2e_request_latency_seconds", _E2E, lambda pool: pool.e2e),
    ("turnout_decision_seconds", "Time a policy took to pick.", lambda pool: pool.decision),
    ("turnout_gateway_overhead_seconds", "Time in the gateway that is not the pod's.", lambda pool: pool.overhead),
)

_BY_CLUSTER: Sequence[tuple[str, str, Callable[[PoolMetrics], Histogram]]] = (
    ("turnout_cluster_time_to_first_token_seconds", f"By the pool's cluster: {_TTFT}", lambda pool: pool.ttft),
    ("turnout_cluster_request_latency_seconds", f"By the pool's cluster: {_E2E}", lambda pool: pool.e2e),
)


def by_pool(metrics: Metrics) -> Iterator[Family]:
    """Every histogram, a series for each pool."""
    for name, help_text, read in _BY_POOL:
        yield Family(name, "histogram", help_text, partial(_pool_samples, name, metrics, read))


def by_cluster(metrics: Metrics, clusters: Mapping[str, str]) -> Iterator[Family]:
    """Latencies by the cluster that answered, for pools that name one; nothing where none does. `clusters` is by
    pool, and empty text is no cluster."""
    if any(clusters.values()):
        for name, help_text, read in _BY_CLUSTER:
            yield Family(name, "histogram", help_text, partial(_cluster_samples, name, metrics, clusters, read))


def _pool_samples(name: str, metrics: Metrics, read: Callable[[PoolMetrics], Histogram]) -> Iterator[Sample]:
    for pool, numbers in metrics.pools:
        histogram = read(numbers)
        marks = [(at, mark) for at in list(histogram.exemplars) if (mark := histogram.exemplars[at])]
        exemplars = {at: prometheus.Exemplar({"trace_id": mark.trace_id}, mark.value, mark.at) for at, mark in marks}
        yield from buckets(name, {"pool": pool}, histogram.bounds, histogram.cumulative(), histogram.sum, exemplars)


def _cluster_samples(
    name: str, metrics: Metrics, clusters: Mapping[str, str], read: Callable[[PoolMetrics], Histogram]
) -> Iterator[Sample]:
    grouped: dict[str, list[Histogram]] = {}
    for pool, numbers in metrics.pools:
        if cluster := clusters.get(pool):
            grouped.setdefault(cluster, []).append(read(numbers))
    for cluster, histograms in grouped.items():
        totals = [sum(column) for column in zip(*(each.cumulative() for each in histograms), strict=True)]
        bounds, sum_s = histograms[0].bounds, sum(each.sum for each in histograms)
        yield from buckets(name, {"cluster": cluster}, bounds, totals, sum_s)
