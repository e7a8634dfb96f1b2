"""The counters that have labels of their own, as a table: name, help, counts and label names. Copied from the gateway's
plain dicts at scrape time, because the loop adds to those between two pieces of a scrape.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from prometheus_client.samples import Sample

from router.telemetry.family import Family
from router.telemetry.metrics import Metrics

NO_CLUSTER = "-"

_Rows = Sequence[tuple[str, str, Callable[[Metrics], Mapping[Any, int]], tuple[str, ...]]]

_COUNTERS: _Rows = (
    (
        "turnout_requests",
        "Requests answered; pool, policy and pod are `-` where there was none, status 499 where the client left first.",
        lambda metrics: metrics.requests,
        ("pool", "policy", "pod", "status"),
    ),
    (
        "turnout_retries",
        "Requests sent to another pod before the first byte of an answer.",
        lambda metrics: metrics.retries,
        ("pool", "reason"),
    ),
    (
        "turnout_stream_moves",
        "Streams whose pod or replica died, in pools that move them, by result: moved, taken_over, or why not.",
        lambda metrics: metrics.moves,
        ("pool", "result"),
    ),
    (
        "turnout_split_requests",
        "Requests of pools with disaggregation, by what got them first: a pair of pods, or a decode pod alone.",
        lambda metrics: metrics.split_requests,
        ("pool", "served_by"),
    ),
    (
        "turnout_ejections",
        "Pods taken out of routing after failures.",
        lambda metrics: metrics.ejections,
        ("pod", "reason"),
    ),
    (
        "turnout_rejections",
        "Requests the gateway itself refused.",
        lambda metrics: metrics.rejections,
        ("pool", "reason"),
    ),
    (
        "turnout_policy_failures",
        "Requests at which a policy failed: its reason says how. Another decided, unless it was only slow.",
        lambda metrics: metrics.policy_failures,
        ("pool", "policy", "reason"),
    ),
    (
        "turnout_fallbacks",
        "Requests that another pool than their own took.",
        lambda metrics: metrics.fallbacks,
        ("from", "to", "reason"),
    ),
    (
        "turnout_slo_requests",
        "Requests that were promised times, by result: kept, late (first token), slow (later ones) or unserved.",
        lambda metrics: metrics.slo_requests,
        ("pool", "result"),
    ),
)

_OF_TENANTS: _Rows = (
    (
        "turnout_tenant_requests",
        "Requests answered, by tenant.",
        lambda metrics: metrics.tenants.requests,
        ("tenant", "status_class"),
    ),
    (
        "turnout_tenant_tokens",
        "Tokens that engines report as used, by tenant and kind: prompt or completion.",
        lambda metrics: metrics.tenants.tokens,
        ("tenant", "kind"),
    ),
    (
        "turnout_tenant_rejections",
        "Requests the gateway itself refused, by tenant.",
        lambda metrics: metrics.tenants.rejections,
        ("tenant", "reason"),
    ),
)
"""Shown from the first request of a tenant on."""


def by_cluster(metrics: Metrics, clusters: Mapping[str, str]) -> Mapping[tuple[str, str], int]:
    """By (cluster, class of the status, such as `5xx`); `clusters` is by pool. Counts never shrink when pods leave."""
    counts: Counter[tuple[str, str]] = Counter()
    for (pool, _, _, status), count in list(metrics.requests.items()):
        counts[clusters.get(pool) or NO_CLUSTER, f"{status // 100}xx"] += count
    for (pool, status), count in list(metrics.gone.items()):
        counts[clusters.get(pool) or NO_CLUSTER, f"{status // 100}xx"] += count
    return counts


def counters(metrics: Metrics, clusters: Mapping[str, str]) -> Iterator[Family]:
    """All of them; `clusters` is by pool."""
    rows = (*_COUNTERS, *_OF_TENANTS) if metrics.tenants.requests else _COUNTERS
    for name, help_text, read, labels in rows:
        yield _counter(name, help_text, read(metrics), labels)
    help_text = "Requests answered by the cluster of their pool; `-` where it names none, or none was reached."
    counts = by_cluster(metrics, clusters)
    yield _counter("turnout_cluster_requests", help_text, counts, ("cluster", "status_class"))


def _counter(name: str, help_text: str, counts: Mapping[Any, int], labels: tuple[str, ...]) -> Family:
    rows = list(counts.items())
    return Family(name, "counter", help_text, lambda: _samples(f"{name}_total", rows, labels))


def _samples(name: str, rows: Sequence[tuple[Any, int]], labels: tuple[str, ...]) -> Iterator[Sample]:
    return (Sample(name, dict(zip(labels, map(str, key), strict=True)), count) for key, count in rows)
