"""The samples of all histograms: of each pool, and summed by cluster, both at scrape time. Buckets carry the exemplars
of traced requests; only OpenMetrics shows those.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from prometheus_client import samples as prometheus
from prometheus_client.samples import Sample
from prometheus_client.utils import floatToGoString

from router.telemetry.metrics import Histogram, Metrics, PoolMetrics


class HistogramFamily(NamedTuple):
    """One histogram with all its series."""

    name: str
    help_text: str
    samples: Callable[[], Iterable[Sample]]


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


def by_pool(metrics: Metrics) -> Iterator[HistogramFamily]:
    """Every histogram, a series for each pool."""
    for name, help_text, read in _BY_POOL:
        yield HistogramFamily(name, help_text, _pool_samples(name, metrics, read))


def by_cluster(metrics: Metrics, clusters: Mapping[str, str]) -> Iterator[HistogramFamily]:
    """Latencies by the cluster that answered, for pools that name one; nothing where none does. `clusters` is by
    pool, and empty text is no cluster."""
    if any(clusters.values()):
        for name, help_text, read in _BY_CLUSTER:
            yield HistogramFamily(name, help_text, _cluster_samples(name, metrics, clusters, read))


def _pool_samples(
    name: str, metrics: Metrics, read: Callable[[PoolMetrics], Histogram]
) -> Callable[[], Iterable[Sample]]:
    def samples() -> Iterator[Sample]:
        for pool, numbers in metrics.pools:
            histogram = read(numbers)
            totals, exemplars = histogram.cumulative(), histogram.exemplars
            marks = {at: exemplars[at] for at in list(exemplars)}
            for at, (edge, total) in enumerate(zip(_edges(histogram), totals, strict=True)):
                mark = marks.get(at)
                example = prometheus.Exemplar({"trace_id": mark.trace_id}, mark.value, mark.at) if mark else None
                yield Sample(name + "_bucket", {"pool": pool, "le": edge}, total, None, example)
            # The last bucket is the count: read once, so that the two can never disagree.
            yield Sample(name + "_count", {"pool": pool}, totals[-1])
            yield Sample(name + "_sum", {"pool": pool}, histogram.sum)

    return samples


def _cluster_samples(
    name: str, metrics: Metrics, clusters: Mapping[str, str], read: Callable[[PoolMetrics], Histogram]
) -> Callable[[], Iterable[Sample]]:
    def samples() -> Iterator[Sample]:
        grouped: dict[str, list[Histogram]] = {}
        for pool, numbers in metrics.pools:
            if cluster := clusters.get(pool):
                grouped.setdefault(cluster, []).append(read(numbers))
        for cluster, histograms in grouped.items():
            totals = [sum(column) for column in zip(*(each.cumulative() for each in histograms), strict=True)]
            for edge, total in zip(_edges(histograms[0]), totals, strict=True):
                yield Sample(name + "_bucket", {"cluster": cluster, "le": edge}, total)
            yield Sample(name + "_count", {"cluster": cluster}, totals[-1])
            yield Sample(name + "_sum", {"cluster": cluster}, sum(each.sum for each in histograms))

    return samples


def _edges(histogram: Histogram) -> list[str]:
    return [*map(floatToGoString, histogram.bounds), "+Inf"]
