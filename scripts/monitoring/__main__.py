"""Writes the files for Grafana, Prometheus and Kubernetes from the panels and alerts: `make monitoring`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml

from scripts.monitoring.alerts import ALERTS
from scripts.monitoring.dashboard import dashboard
from scripts.monitoring.rollouts import argo, flagger
from scripts.monitoring.rows import ROWS
from scripts.monitoring.rules import groups, prometheus_rule

ROOT = Path(__file__).resolve().parents[2]

_HEAD = "# Written by `make monitoring` from scripts/monitoring/alerts.py. Change it there.\n"


def files() -> dict[str, str]:
    """Path from the root of the tree -> content."""
    return {
        "deploy/grafana/turnout.json": json.dumps(dashboard(ROWS), indent=1) + "\n",
        "deploy/prometheus/alerts.yaml": _yaml(groups(ALERTS)),
        "deploy/prometheus/prometheusrule.yaml": _yaml(prometheus_rule(ALERTS)),
        "deploy/rollouts/argo.yaml": _documents(argo()),
        "deploy/rollouts/flagger.yaml": _documents(flagger()),
    }


def _yaml(content: dict[str, object]) -> str:
    return _HEAD + yaml.safe_dump(content, sort_keys=False, width=118)


def _documents(content: list[dict[str, Any]]) -> str:
    head = (
        "# Written by `make monitoring` from scripts/monitoring/rollouts.py. Change it there. See docs/upgrades.md.\n"
    )
    return head + yaml.safe_dump_all(content, sort_keys=False, width=118)


if __name__ == "__main__":
    for path, text in files().items():
        (ROOT / path).parent.mkdir(parents=True, exist_ok=True)
        (ROOT / path).write_text(text)
