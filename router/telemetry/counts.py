"""The counters that have labels of their own, as a table: name, help, counts and label names. Copied from the gateway's
plain dicts at scrape time, because the loop adds to those between two pieces of a scrape.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

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


def labelled(metrics: Metrics, clusters: Mapping[str, str]) -> Sequence[LabelledCounter]:
    """All of them; `clusters` is by pool."""
    return (
        LabelledCounter(
            "turnout_requests",
            "Requests answered; pod is empty where none was reached, status 499 where the client left first.",
            list(metrics.requests.items()),
            ("pool", "policy", "pod", "status"),
        ),
        LabelledCounter(
            "turnout_retries",
            "Requests sent to another pod before the first byte of an answer.",
            list(metrics.retries.items()),
            ("pool", "reason"),
        ),
        LabelledCounter(
            "turnout_ejections",
            "Pods taken out of routing after failures.",
            list(metrics.ejections.items()),
            ("pod", "reason"),
        ),
        LabelledCounter(
            "turnout_rejections",
            "Requests the gateway itself refused.",
            list(metrics.rejections.items()),
            ("pool", "reason"),
        ),
        LabelledCounter(
            "turnout_policy_failures",
            "Requests at which a policy failed: its reason says how. Another decided, unless it was only slow.",
            list(metrics.policy_failures.items()),
            ("pool", "policy", "reason"),
        ),
        LabelledCounter(
            "turnout_fallbacks",
            "Requests that another pool than their own took.",
            list(metrics.fallbacks.items()),
            ("from", "to", "reason"),
        ),
        LabelledCounter(
            "turnout_cluster_requests",
            "Requests answered by the cluster of their pool; `-` where it names none, or none was reached.",
            list(by_cluster(metrics, clusters).items()),
            ("cluster", "status_class"),
        ),
    )
