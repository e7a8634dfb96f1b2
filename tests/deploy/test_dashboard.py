"""The dashboard's JSON equals what the tables generate, and has the structure that Grafana expects."""

from __future__ import annotations

import json
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
import yaml

from scripts.monitoring.__main__ import files
from scripts.monitoring.rows import ROWS

ROOT = Path(__file__).resolve().parents[2]
BOARD: dict[str, Any] = json.loads((ROOT / "deploy/grafana/turnout.json").read_text())
PANELS = [panel for panel in BOARD["panels"] if panel["type"] != "row"]


@pytest.mark.parametrize("path", files())
def test_the_stored_dashboard_equals_the_generated_one(path: str) -> None:
    assert (ROOT / path).read_text() == files()[path], "run `make monitoring`"


def test_every_panel_of_the_tables_is_on_the_dashboard_in_order() -> None:
    assert [panel["title"] for panel in PANELS] == [panel.title for row in ROWS for panel in row.panels]


def test_panels_do_not_overlap_and_stay_inside_the_grid() -> None:
    taken = [{(x, y) for x in _span(panel, "x", "w") for y in _span(panel, "y", "h")} for panel in BOARD["panels"]]
    assert not any(one & other for one, other in combinations(taken, 2))
    assert all(0 <= x < 24 for cells in taken for x, _ in cells)


def _span(panel: dict[str, Any], start: str, length: str) -> range:
    where = panel["gridPos"]
    return range(where[start], where[start] + where[length])


def test_every_panel_has_a_description_and_ids_are_unique() -> None:
    assert all(panel["description"] for panel in PANELS)
    ids = [panel["id"] for panel in BOARD["panels"]]
    assert len(ids) == len(set(ids))


def test_every_query_uses_the_chosen_data_source_and_names_its_lines() -> None:
    for panel in PANELS:
        references = [target["refId"] for target in panel["targets"]]
        assert len(references) == len(set(references))
        for target in panel["targets"]:
            assert target["datasource"]["uid"] == "${datasource}"
            assert target["legendFormat"]


def test_every_scrape_configuration_keeps_a_metrics_own_label_pod() -> None:
    """Prometheus' own label `pod` would be the gateway's, and the engine's would become `exported_pod`."""
    compose = yaml.safe_load((ROOT / "deploy/compose/prometheus.yml").read_text())
    assert [job["honor_labels"] for job in compose["scrape_configs"] if job["job_name"] == "turnout"] == [True]
    monitor = yaml.safe_load((ROOT / "deploy/kubernetes/components/monitoring/servicemonitor.yaml").read_text())
    assert [endpoint["honorLabels"] for endpoint in monitor["spec"]["endpoints"]] == [True]
