"""docs/metrics.md: every metric with its type and labels, read from the families that a scrape is made of.

A small gateway is made up in which each family has a sample, so that the labels are those of real samples.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import chain
from types import SimpleNamespace
from typing import Any, cast

from router.control.parts import ControlParts
from router.telemetry import kv_events, scale_signals, span_family, trials
from router.telemetry.collector import GatewayCollector
from router.telemetry.family import Family
from router.telemetry.metrics import Metrics
from router.telemetry.ports import tls_families
from router.trials.figures import ArmFigures, ShadowFigures, TrialFigures, TrialReading
from schedulers.types import PodId
from scripts.reference.markdown import opening, table
from statesync.kv_events.reader import KvEventCounts
from statesync.prefix.accuracy import PodAccuracy
from tests.fakes.fixed_readings import readings

_TEXT = """
`GET /metrics` on the control port has Prometheus' text format, or OpenMetrics where the scraper asks for it. A scrape
needs `honor_labels: true`, because the label `pod` is the engine's. [Reference](reference.md#metrics) lists the most
useful ones by question, and [alerts](operations.md#alerts) says what to do about them. Every replica reports its own
counts: add them up. What is said of pods is the same on all replicas: take `max()`.

The usual `process_*` and `python_*` of Python's Prometheus client are there, too.
"""
_OF_ANSWERS = ("turnout_kv_matched_", "turnout_kv_unmatched_", "turnout_kv_predictions", "turnout_kv_exact_")
_GROUPS: Sequence[tuple[str, tuple[str, ...]]] = (
    ("Tenants", ("turnout_tenant_",)),
    ("Clusters", ("turnout_cluster_",)),
    ("Shadows and canaries", ("turnout_trial_", "turnout_shadow_")),
    ("Policies", ("turnout_policy_", "turnout_decision")),
    ("KV events", ("turnout_kv_event_", "turnout_kv_in_", "turnout_kv_held_", *_OF_ANSWERS)),
    ("Prefix index", ("turnout_prefix_",)),
    (
        "Shared state",
        ("turnout_state_", "turnout_view_age", "turnout_unseen", "turnout_replicas", "turnout_pods_scraped"),
    ),
    ("Autoscaling", ("turnout_scale_signal_",)),
    (
        "Pods",
        (
            *("turnout_pod_", "turnout_pool_", "turnout_inflight", "turnout_pending", "turnout_queued"),
            *("turnout_running", "turnout_kv_", "turnout_ejections"),
        ),
    ),
    ("Replica", ("turnout_phase", "turnout_cold", "turnout_build", "turnout_tls_", "turnout_audit_", "turnout_spans")),
    ("Requests", ("turnout_",)),
)
"""Heading -> the beginnings of its metrics' names. The first that fits counts."""
_ORDER = ("Requests", "Pods", "Prefix index", "Policies", "Shadows and canaries", "Tenants", "Clusters", "Autoscaling")
_WHERE: Mapping[str, str] = {
    "Tenants": "Shown from the first request of a [tenant](access.md) on.",
    "Clusters": "For pools that name their [cluster](operations.md#clusters-and-fall-back).",
    "Shadows and canaries": "While a [trial](policies.md#shadow-and-canary) runs.",
    "KV events": "For pools with [KV events](kv-events.md).",
    "Autoscaling": "See [scale from zero](fairness.md#scale-from-zero).",
    "Shared state": "See [what replicas know of each other](operations.md#what-replicas-know-of-each-other).",
}


def page() -> str:
    """The whole page."""
    by_group: dict[str, list[Family]] = {}
    for family in every():
        by_group.setdefault(_group(family.name), []).append(family)
    headings = [*_ORDER, *(heading for heading, _ in _GROUPS if heading not in _ORDER)]
    parts = [opening("Metrics", "router/telemetry", _TEXT)]
    for heading in headings:
        rows = [_row(family) for family in by_group[heading]]
        note = f"{_WHERE[heading]}\n\n" if heading in _WHERE else ""
        parts.append(f"## {heading}\n\n{note}{table(('metric', 'type', 'labels', ''), rows)}")
    return "\n".join(parts)


def every() -> Iterator[Family]:
    """Every family, each with at least one sample."""
    yield from GatewayCollector(_counted(), _readings())._families()


def _group(name: str) -> str:
    return next(heading for heading, beginnings in _GROUPS if name.startswith(beginnings))


def _row(family: Family) -> Sequence[str]:
    samples = list(family.samples())
    assert samples, f"{family.name}: the made-up gateway has no sample of it"
    name = f"{family.name}_total" if family.kind == "counter" else family.name
    labels = [label for label in samples[0].labels if label != "le"]
    return f"`{name}`", family.kind, ", ".join(f"`{label}`" for label in labels), family.help


def _counted() -> Metrics:
    metrics = Metrics()
    metrics.pool("default")
    metrics.requests[("default", "p2c", "pod", 200)] = 1
    metrics.retries[("default", "connect")] = 1
    metrics.ejections[("pod", "connect")] = 1
    metrics.rejections[("default", "pool_saturated")] = 1
    metrics.policy_failures[("default", "p2c", "raised")] = 1
    metrics.fallbacks[("default", "far", "no_pod")] = 1
    metrics.moves[("default", "moved")] = 1
    metrics.split_requests[("default", "pair")] = 1
    metrics.slo_requests[("default", "kept")] = 1
    metrics.tenants.ended("search", 200, 1)
    metrics.tenants.refused("search", "rate_limit_exceeded")
    return metrics


def _readings() -> Any:
    shadow = ShadowFigures(compared=1, agreed=1)
    figures = TrialFigures(baseline=ArmFigures(), canary=ArmFigures(), shadow=shadow)
    trial = TrialReading("default", figures, True, True, False)
    port = cast(Any, SimpleNamespace(port="inference", expires_at=0.0, failing=False, refused={"revoked": 1}))
    control = ControlParts(cast(Any, None), cast(Any, SimpleNamespace(lost=0)))
    return replace(
        readings(1),
        clusters={"default": "eu"},
        pools=lambda: ["default"],
        prefix_truth=lambda: {PodId("pod"): PodAccuracy()},
        more=lambda: chain(
            trials.families([trial], {"default": 1}),
            tls_families([port]),
            span_family.families({"exported": 1}),
            control.families(),
            kv_events.families({PodId("pod"): KvEventCounts(*[0] * 10)}),
            scale_signals.families(["default"], [], {}, 0.0),
        ),
    )
