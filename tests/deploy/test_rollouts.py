"""The gates of an upgrade: the manifests fit their tools, and a query is above its limit for a worse version only."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from scripts.monitoring.rollouts import GATES, HASH, Gate, argo, flagger
from tests.fakes.each_case import each_case
from tests.fakes.kubernetes_schema import VERSIONS, problems

ROOT = Path(__file__).resolve().parents[2]
OLD, NEW = "turnout-primary-7d9f6c5b4-x", "turnout-58cbd4f9-y"
"""Names of replicas, as Flagger's Deployments have them."""


@each_case("manifest", [*argo(), *flagger()], ids=lambda each: f"{each['kind']} {each['metadata']['name']}")
def test_a_manifest_has_only_fields_that_its_tool_has(manifest: dict[str, Any]) -> None:
    assert [*problems(manifest, VERSIONS[-1])] == []


def test_the_gated_deployment_is_the_one_of_the_base() -> None:
    documents = yaml.safe_load_all((ROOT / "deploy/kubernetes/base/deployment.yaml").read_text())
    (deployment,) = [each for each in documents if each["kind"] == "Deployment"]
    (rollout,) = [each for each in argo() if each["kind"] == "Rollout"]
    (canary,) = [each for each in flagger() if each["kind"] == "Canary"]
    for ref in (rollout["spec"]["workloadRef"], canary["spec"]["targetRef"]):
        assert (ref["kind"], ref["name"]) == ("Deployment", deployment["metadata"]["name"])
    named = {each["name"] for each in deployment["spec"]["template"]["spec"]["containers"][0]["env"]}
    assert "TURNOUT_REPLICA" in named, "the queries know a version by the name of its replicas' pods"


def test_every_gate_is_in_both_and_no_placeholder_is_left() -> None:
    (template,) = [each for each in argo() if each["kind"] == "AnalysisTemplate"]
    queries = {each["name"]: each["provider"]["prometheus"]["query"] for each in template["spec"]["metrics"]}
    metrics = {
        each["metadata"]["name"]: each["spec"]["query"] for each in flagger() if each["kind"] == "MetricTemplate"
    }
    assert [*queries] == [gate.name for gate in GATES]
    assert [*metrics] == [f"turnout-{gate.name}" for gate in GATES]
    assert not [text for text in (*queries.values(), *metrics.values()) if '"NEW"' in text or '"OLD"' in text]


def test_the_pattern_of_new_pods_does_not_match_those_of_the_primary() -> None:
    assert re.fullmatch(f"turnout-{HASH}-.+", NEW)
    assert not re.fullmatch(f"turnout-{HASH}-.+", OLD)
    assert re.fullmatch(f"turnout-primary-{HASH}-.+", OLD)


def _series(worse: str) -> Mapping[str, str]:
    """Two replicas under equal traffic; NEW's figure named by `worse` is worse."""
    found: dict[str, str] = {}
    for at, replica in enumerate((OLD, NEW)):
        bad = at == 1

        def value(name: str, good: int, ill: int, bad: bool = bad) -> str:
            return f"0+{ill if bad and name == worse else good}x30"

        where = f'namespace="n",instance="10.0.0.{at}:9000"'
        first = {"0.1": value("first-token", 590, 0), "1": "0+600x30", "+Inf": "0+600x30"}
        found |= {
            f'turnout_build_info{{{where},version="1",replica="{replica}"}}': "1x30",
            f'turnout_requests_total{{{where},pool="p",policy="x",pod="e",status="200"}}': "0+600x30",
            f'turnout_requests_total{{{where},pool="p",policy="x",pod="e",status="502"}}': value("errors", 0, 30),
            f"process_cpu_seconds_total{{{where}}}": value("cpu", 10, 16),
            f'turnout_prefix_cache_queries_total{{{where},pool="p"}}': "0+1000x30",
            f'turnout_prefix_cache_hits_total{{{where},pool="p"}}': value("prefixes", 800, 500),
            f"turnout_state_unreadable_total{{{where}}}": value("unreadable", 0, 1),
            **{
                f'turnout_time_to_first_token_seconds_bucket{{{where},pool="p",le="{le}"}}': values
                for le, values in first.items()
            },
        }
    return found


def _test(series: Mapping[str, str], fires: str) -> dict[str, Any]:
    alerts = [
        {
            "eval_time": "20m",
            "alertname": gate.name,
            "exp_alerts": [{"exp_labels": {"fires": "yes"}}] if gate.name == fires else [],
        }
        for gate in GATES
    ]
    values = [{"series": name, "values": value} for name, value in series.items()]
    return {"interval": "1m", "input_series": values, "alert_rule_test": alerts}


def _expr(gate: Gate) -> str:
    """As Flagger asks it, with its variable filled in."""
    (query,) = [each["spec"]["query"] for each in flagger() if each["metadata"]["name"] == f"turnout-{gate.name}"]
    return f"({query.replace('{{ target }}', 'turnout')}) > {gate.most}"


@pytest.mark.slow
@pytest.mark.needs("promtool")
def test_a_gate_closes_for_its_own_regression_and_for_no_other(tmp_path: Path) -> None:
    rules = [{"alert": gate.name, "expr": _expr(gate), "labels": {"fires": "yes"}} for gate in GATES]
    tests = [_test(_series(worse), worse) for worse in ("", *(gate.name for gate in GATES))]
    (tmp_path / "rules").write_text(yaml.safe_dump({"groups": [{"name": "gates", "rules": rules}]}))
    (tmp_path / "test").write_text(
        yaml.safe_dump({"evaluation_interval": "1m", "rule_files": ["rules"], "tests": tests})
    )
    done = subprocess.run(["promtool", "test", "rules", "test"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
