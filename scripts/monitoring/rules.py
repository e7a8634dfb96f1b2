"""Turns the alerts into a Prometheus rule file, and into a Kubernetes PrometheusRule."""

from __future__ import annotations

from collections.abc import Sequence

from scripts.monitoring.alerts import Alert

RELEASE = "kube-prometheus-stack"
"""Name of the Helm release by which its Prometheus selects rules; the ServiceMonitor has it, too."""


def groups(alerts: Sequence[Alert]) -> dict[str, object]:
    """A rule file's content."""
    return {"groups": [{"name": "turnout", "rules": [_rule(alert) for alert in alerts]}]}


def prometheus_rule(alerts: Sequence[Alert]) -> dict[str, object]:
    """The same for the Prometheus operator; the namespace is the overlay's to set."""
    return {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PrometheusRule",
        "metadata": {"name": "turnout", "labels": {"app.kubernetes.io/name": "turnout", "release": RELEASE}},
        "spec": groups(alerts),
    }


def _rule(alert: Alert) -> dict[str, object]:
    return {
        "alert": alert.name,
        "expr": alert.expr,
        "for": alert.hold,
        "labels": {"severity": alert.severity},
        "annotations": {"summary": alert.summary, "runbook": alert.runbook},
    }
