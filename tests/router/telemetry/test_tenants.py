"""What tenants used is counted by tenant, and shown only where there are any."""

from __future__ import annotations

from router.telemetry.counts import counters
from router.telemetry.metrics import Metrics

NAMES = ("turnout_tenant_requests", "turnout_tenant_tokens", "turnout_tenant_rejections")


def test_requests_tokens_and_refusals_are_summed_by_tenant() -> None:
    metrics = Metrics()
    metrics.tenants.ended("search", 200, 10, 3)
    metrics.tenants.ended("search", 201, 5)
    metrics.tenants.ended("chat", 404)
    metrics.tenants.refused("chat", "model_not_found")
    by_name = {
        each.name: {tuple(sample.labels.values()): sample.value for sample in each.samples()}
        for each in counters(metrics, {})
    }
    assert [by_name[name] for name in NAMES] == [
        {("search", "2xx"): 2, ("chat", "4xx"): 1},
        {("search", "prompt"): 15, ("search", "completion"): 3},
        {("chat", "model_not_found"): 1},
    ]


def test_without_tenants_no_metric_of_them_is_shown() -> None:
    assert not {each.name for each in counters(Metrics(), {})}.intersection(NAMES)
