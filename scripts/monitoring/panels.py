"""The parts of a dashboard panel, and the expressions that panels share. It makes no JSON.

A number that all replicas show alike (a pod's load over all replicas) is taken as `max` over them; one that each
replica counts for itself is summed. `pod` is the engine's pod: scrape with `honor_labels`, or Prometheus renames it.
"""

from __future__ import annotations

from typing import NamedTuple

HERE = 'namespace=~"$namespace",instance=~"$instance"'
POOL = f'{HERE},pool=~"$pool"'
RATE = "$__rate_interval"


class Query(NamedTuple):
    """An expression and the names of its lines; `{{label}}` stands for a label's value."""

    expr: str
    legend: str


class Panel(NamedTuple):
    """One panel. `unit` and `kind` are Grafana's names."""

    title: str
    description: str
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
    """Rates of counters without labels."""
    return tuple(
        Query(f"rate({metric}{{{HERE}}}[{RATE}])", f"{{{{instance}}}} {name}".strip()) for metric, name in metrics
    )
