"""Requests by cluster, summed at scrape time from those by pool: no request counts twice. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from router.telemetry.metrics import Metrics

NO_CLUSTER = "-"


def by_cluster(metrics: Metrics, clusters: Mapping[str, str]) -> Mapping[tuple[str, str], int]:
    """By (cluster, class of the status, such as `5xx`); `clusters` is by pool. Counts never shrink when pods leave."""
    counts: Counter[tuple[str, str]] = Counter()
    for (pool, _, _, status), count in list(metrics.requests.items()):
        counts[clusters.get(pool) or NO_CLUSTER, f"{status // 100}xx"] += count
    for (pool, status), count in list(metrics.gone.items()):
        counts[clusters.get(pool) or NO_CLUSTER, f"{status // 100}xx"] += count
    return counts
