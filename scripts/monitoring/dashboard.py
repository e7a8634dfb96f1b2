"""Turns the panels into the JSON that Grafana imports. `panels.py` has the contents, this module the layout."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from scripts.monitoring.panels import Panel, Row

UID = "turnout"
WIDTH, HEIGHT, A_ROW = 6, 7, 4
"""A panel's size in Grafana's grid of 24 columns, and how many fit side by side."""

_SOURCE = {"type": "prometheus", "uid": "${datasource}"}


def dashboard(rows: Sequence[Row]) -> dict[str, object]:
    """The whole dashboard; equal rows make equal bytes."""
    return {
        "uid": UID,
        "title": "Turnout",
        "tags": ["turnout", "llm"],
        "schemaVersion": 39,
        "version": 1,
        "editable": True,
        "graphTooltip": 1,
        "refresh": "10s",
        "time": {"from": "now-1h", "to": "now"},
        "templating": {"list": _variables()},
        "annotations": {"list": [_policy_changes()]},
        "panels": list(_placed(rows)),
    }


def _variables() -> list[dict[str, object]]:
    source: dict[str, object] = {
        "name": "datasource",
        "label": "Data source",
        "type": "datasource",
        "query": "prometheus",
    }
    return [
        source,
        # Outside of Kubernetes there is no such label, and "All" is the only choice.
        _label_values("namespace", "Namespace", "turnout_build_info"),
        _label_values("instance", "Replica", "turnout_build_info"),
        _label_values("pool", "Pool", "turnout_policy_generation"),
    ]


def _label_values(name: str, label: str, metric: str) -> dict[str, object]:
    query = f"label_values({metric}, {name})"
    return {
        "name": name,
        "label": label,
        "type": "query",
        "datasource": _SOURCE,
        "query": {"query": query, "refId": name},
        "definition": query,
        "refresh": 2,
        "sort": 1,
        "multi": True,
        "includeAll": True,
        "allValue": ".*",
        "current": {"text": "All", "value": "$__all"},
    }


def _policy_changes() -> dict[str, object]:
    """A mark where a pool's policy was changed."""
    return {
        "name": "Policy changed",
        "enable": True,
        "iconColor": "purple",
        "datasource": _SOURCE,
        "expr": "changes(max by (pool) (turnout_policy_generation)[1m:15s]) > 0",
        "titleFormat": "policy of {{pool}} changed",
        "step": "15s",
    }


def _placed(rows: Sequence[Row]) -> Iterator[dict[str, object]]:
    """Headings and panels from top to bottom; ids in order, so that a diff shows what was changed."""
    number = y = 0
    for row in rows:
        number += 1
        yield {
            "id": number,
            "type": "row",
            "title": row.title,
            "collapsed": False,
            "gridPos": {"x": 0, "y": y, "w": 24, "h": 1},
            "panels": [],
        }
        y += 1
        for at, panel in enumerate(row.panels):
            number += 1
            where = {"x": at % A_ROW * WIDTH, "y": y + at // A_ROW * HEIGHT, "w": WIDTH, "h": HEIGHT}
            yield {"id": number, "gridPos": where, **_shown(panel)}
        y += -(-len(row.panels) // A_ROW) * HEIGHT


def _shown(panel: Panel) -> dict[str, object]:
    targets = [
        {"refId": chr(ord("A") + at), "expr": query.expr, "legendFormat": query.legend, "datasource": _SOURCE}
        for at, query in enumerate(panel.queries)
    ]
    defaults: dict[str, object] = {"unit": panel.unit, "min": 0}
    defaults["custom"] = {"lineWidth": 1, "fillOpacity": 5, "showPoints": "never"}
    return {
        "type": panel.kind,
        "title": panel.title,
        "description": panel.description,
        "datasource": _SOURCE,
        "fieldConfig": {"defaults": defaults, "overrides": []},
        "options": {
            "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True},
            "tooltip": {"mode": "multi", "sort": "desc"},
        },
        "targets": targets,
    }
