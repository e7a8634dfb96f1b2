"""What a panel of the dashboard is made of, and the expressions that many of them share. No JSON is made here.

A number that every replica shows the same (a pod's load over all replicas) is taken as `max` over them; one that each
counts for itself is summed. `pod` is always the engine's pod: scrape with `honor_labels`, or Prometheus renames it.
"""

from __future__ import annotations

from typing import NamedTuple

HERE = 'namespace=~"$namespace",instance=~"$instance"'
POOL = f'{HERE},pool=~"$pool"'
RATE = "$__rate_interval"


class Query(NamedTuple):
    """An expression and what its lines are called; `{{label}}` stands for a label's value."""

    expr: str
    legend: str


class Panel(NamedTuple):
    """One picture. `unit` is Grafana's name of it; `kind` its name of the picture."""

    title: str
    words: str
    unit: str
    queries: tuple[Query, ...]
    kind: str = "timeseries"


class Row(NamedTuple):
    """Panels under a heading."""

    title: str
    panels: tuple[Panel, ...]


def rate(metric: str, where: str, by: str) -> str:
    return f"sum by ({by}) (rate({metric}{{{where}}}[{RATE}]))"


def quantiles(metric: str) -> tuple[Query, ...]:
    """The median, the 90th and the 99th percentile of a histogram, by pool."""
    buckets = rate(f"{metric}_bucket", POOL, "pool, le")
    return tuple(
        Query(f"histogram_quantile({q}, {buckets})", f"{{{{pool}}}} {name}")
        for q, name in ((0.5, "p50"), (0.9, "p90"), (0.99, "p99"))
    )


def by_pod(metric: str) -> str:
    """A pod's number, which every replica shows."""
    return f"max by (pool, pod) ({metric}{{{POOL}}})"


def by_replica(metric: str, legend: str = "{{instance}}") -> tuple[Query, ...]:
    return (Query(f"{metric}{{{HERE}}}", legend),)


def rates_by_replica(*metrics: tuple[str, str]) -> tuple[Query, ...]:
    """Rates of counters that a replica has one of."""
    return tuple(
        Query(f"rate({metric}{{{HERE}}}[{RATE}])", f"{{{{instance}}}} {name}".strip()) for metric, name in metrics
    )
