"""The counters that have labels of their own, as a table: name, help, counts and label names. Copied from the gateway's
plain dicts at scrape time, because the loop adds to those between two pieces of a scrape.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from router.telemetry.clusters import by_cluster
from router.telemetry.metrics import Metrics

Counts = Sequence[tuple[tuple[object, ...], int]]
"""Label values and the count under them."""


class LabelledCounter(NamedTuple):
    """One counter."""

    name: str
    """Without `_total`."""
    help_text: str
    counts: Counts
    labels: tuple[str, ...]
    """In the order of the label values."""


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


def labelled(metrics: Metrics, clusters: Mapping[str, str]) -> Sequence[LabelledCounter]:
    """All of them; `clusters` is by pool."""
    rows = (*_COUNTERS, *_OF_TENANTS) if metrics.tenants.requests else _COUNTERS
    return (
        *(LabelledCounter(name, words, list(read(metrics).items()), labels) for name, words, read, labels in rows),
        LabelledCounter(
            "turnout_cluster_requests",
            "Requests answered by the cluster of their pool; `-` where it names none, or none was reached.",
            list(by_cluster(metrics, clusters).items()),
            ("cluster", "status_class"),
        ),
    )
