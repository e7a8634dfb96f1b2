"""Each alert fires on matching series and on no others, checked by Prometheus' rule tester.

Series are a sample a minute in promtool's notation: `0+60x30` is 0, 60, 120, ... Annotations are left out of the rules
under test, because promtool requires every one repeated; `promtool check rules` checks their templates.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Mapping
from pathlib import Path
from subprocess import PIPE, STDOUT
from typing import Any, NamedTuple

import pytest
import yaml

from scripts.monitoring.alerts import ALERTS, Alert
from scripts.monitoring.rules import groups, prometheus_rule
from tests.fakes.each_case import each_case

ROOT = Path(__file__).resolve().parents[2]
Series = Mapping[str, str]


class Case(NamedTuple):
    """Series that make an alert fire within two hours, the labels it then has, and series on which it stays quiet."""

    fires: Series
    labels: Mapping[str, str]
    quiet: Series


ONE = {"instance": "a"}
POOL = {"pool": "p"}
UP = {'turnout_build_info{instance="a",version="1"}': "1x120"}


def _pods(metric: str, *values: str) -> Series:
    return {f'{metric}{{instance="a",pool="p",pod="pod-{at}"}}': f"{value}x120" for at, value in enumerate(values)}


def _answers(good: int, bad: int) -> Series:
    """A counter that grows by this much a minute."""
    name = 'turnout_requests_total{instance="a",pool="p",policy="x",pod="1",status='
    return {f'{name}"200"}}': f"0+{good}x120", f'{name}"502"}}': f"0+{bad}x120"}


def _late(metric: str, fast: int, slow: int, edge: str) -> Series:
    """Observations a minute: at most `edge` seconds, and between that and ten times it."""
    labels = 'instance="a",pool="p"'
    total = fast + slow
    return {
        f'{metric}_bucket{{{labels},le="{edge}"}}': f"0+{fast}x120",
        f'{metric}_bucket{{{labels},le="{float(edge) * 10:g}"}}': f"0+{total}x120",
        f'{metric}_bucket{{{labels},le="+Inf"}}': f"0+{total}x120",
    }


def _prefix(predicted: int, error: int) -> Series:
    """A counter of tokens, by its growth a minute."""
    return {
        'turnout_prefix_predicted_tokens_total{instance="a",pod="1"}': f"0+{predicted}x120",
        'turnout_prefix_error_tokens_total{instance="a",pod="1"}': f"0+{error}x120",
    }


def _two(metric: str, one: str, other: str, more: str = "") -> Series:
    """The series of two replicas."""
    return {f'{metric}{{instance="a"{more}}}': f"{one}x120", f'{metric}{{instance="b"{more}}}': f"{other}x120"}


_TTFT, _OVERHEAD = "turnout_time_to_first_token_seconds", "turnout_gateway_overhead_seconds"
_REFUSED = 'turnout_rejections_total{instance="a",pool="p",reason="saturated"}'
_UNDECIDED = 'turnout_policy_failures_total{instance="a",pool="p",policy="x",reason="raised"}'
_OUT = 'turnout_policy_taken_out{instance="a",pool="p",policy="x"}'
_FELL = 'turnout_fallbacks_total{instance="a",from="p",to="q",reason="no_pod"}'
_TAKEN_BACK = 'turnout_trial_rollbacks_total{instance="a",pool="p"}'
_RETRIED = 'turnout_retries_total{instance="a",pool="p",reason="connect"}'
_EJECTED = 'turnout_ejections_total{instance="a",pod="1",reason="connect"}'
_WAITING = 'turnout_waiting_requests{instance="a"}'
_CPU = 'process_cpu_seconds_total{instance="a"}'
_CONNECTED, _AGE = 'turnout_state_connected{instance="a"}', 'turnout_view_age_seconds{instance="a"}'
_GENERATION, _DIGEST = "turnout_policy_generation", "turnout_policy_digest"
_P, _POLICY = ',pool="p"', ',pool="p",policy="x"'
_GIVEN_UP = 'turnout_state_policies_given_up_total{instance="a"}'
_ENDS = 'turnout_tls_certificate_expiry_timestamp_seconds{instance="a",port="control"}'
_AUDIT = 'turnout_audit_lost_total{instance="a"}'
_DROPPED = 'turnout_state_placements_dropped_total{instance="a"}'
_STRANGERS = 'turnout_state_strangers{instance="a"}'
_DRAINING = 'turnout_phase_seconds{instance="a",phase="draining"}'
_ACTIVE = 'turnout_active_requests{instance="a"}'
_INFLIGHT = "turnout_inflight_requests"

CASES: Mapping[str, Case] = {
    "TurnoutGone": Case({"up": "0x120"}, {}, UP),
    "TurnoutErrors": Case(_answers(97, 3), POOL, _answers(1000, 9)),
    "TurnoutNoPod": Case(_pods("turnout_pod_routable", "0", "0"), POOL, _pods("turnout_pod_routable", "0", "1")),
    "TurnoutPodsOut": Case(
        _pods("turnout_pod_routable", "0", "1", "1", "0"), POOL, _pods("turnout_pod_routable", "1", "1", "1", "1", "0")
    ),
    "TurnoutRefusing": Case({_REFUSED: "0+12x120"}, POOL | {"reason": "saturated"}, {_REFUSED: "0+3x120"}),
    "TurnoutRetries": Case({_RETRIED: "0+10x120", **_answers(100, 0)}, POOL, {_RETRIED: "0+4x120", **_answers(100, 0)}),
    "TurnoutFallback": Case({_FELL: "0+1x120"}, {"from": "p", "to": "q"}, {_FELL: "7x120"}),
    "TurnoutPolicyFails": Case({_UNDECIDED: "0+1x120"}, POOL | {"policy": "x"}, {_UNDECIDED: "9x120"}),
    "TurnoutPolicyTakenOut": Case({_OUT: "0x5 1x115"}, POOL | {"policy": "x"}, {_OUT: "0x120"}),
    "TurnoutCanaryTakenBack": Case({_TAKEN_BACK: "0x85 1x35"}, POOL, {_TAKEN_BACK: "1x120"}),
    "TurnoutEjections": Case({_EJECTED: "0+1x120"}, {"pod": "1"}, {_EJECTED: "0x30 1x10 2x60"}),
    "TurnoutFirstTokenLate": Case(_late(_TTFT, 80, 20, "5"), POOL, _late(_TTFT, 95, 5, "5")),
    "TurnoutWaiting": Case({_WAITING: "3x120"}, ONE, {_WAITING: "3 3 0 5 5 1 0 9 9 0" + " 4 4 0 2 2 0" * 18}),
    "TurnoutKvFull": Case(
        _pods("turnout_kv_usage_ratio", "0.99", "0.97"), POOL, _pods("turnout_kv_usage_ratio", "1", "0.8")
    ),
    "TurnoutImbalance": Case(
        _pods(_INFLIGHT, "50", "1", "1", "1", "1", "1"), POOL, _pods(_INFLIGHT, "10", "0", "0", "0", "0", "0")
    ),
    "TurnoutSlow": Case(_late(_OVERHEAD, 95, 5, "0.01"), ONE, {**_late(_OVERHEAD, 95, 5, "0.01"), _WAITING: "7x120"}),
    "TurnoutCpuFull": Case(
        {_CPU: "0+57x120", **UP}, ONE, {_CPU: "0+57x120", 'turnout_build_info{instance="b"}': "1x120"}
    ),
    "TurnoutStateLost": Case({_CONNECTED: "0x120"}, ONE, {_CONNECTED: "1x10 0 1x100"}),
    "TurnoutViewOld": Case({_AGE: "0.3x120", _CONNECTED: "1x120"}, ONE, {_AGE: "0.05x120", _CONNECTED: "1x120"}),
    "TurnoutReplicasApart": Case(_two("turnout_replicas", "1", "2"), {}, _two("turnout_replicas", "2", "2")),
    # Case I 48: one generation, two records; the digests differ in their last bit.
    "TurnoutPoliciesApart": Case(
        {**_two(_GENERATION, "3", "3", _POLICY), **_two(_DIGEST, "271828182845904", "271828182845905", _P)},
        POOL,
        {**_two(_GENERATION, "4", "4", _POLICY), **_two(_DIGEST, "271828182845904", "271828182845904", _P)},
    ),
    "TurnoutPolicyGivenUp": Case({_GIVEN_UP: "0x100 2x20"}, ONE, {_GIVEN_UP: "3x120"}),
    "TurnoutAuditLost": Case({_AUDIT: "0x100 2x20"}, ONE, {_AUDIT: "3x120"}),
    "TurnoutCertificate": Case(
        {_ENDS: "604000x120"},  # the tester's clock begins at 0
        {"instance": "a", "port": "control"},
        {_ENDS: "700000x120", 'turnout_tls_files_failing{instance="a",port="control"}': "0x120"},
    ),
    "TurnoutStateDropped": Case({_DROPPED: "0+5x120"}, ONE, {_DROPPED: "5x120"}),
    "TurnoutTwoFleets": Case({_STRANGERS: "0 2x119"}, ONE, {_STRANGERS: "0x120"}),
    "TurnoutCold": Case({'turnout_cold{instance="a"}': "1x120"}, ONE, {'turnout_cold{instance="a"}': "1x3 0x110"}),
    "TurnoutRollStuck": Case(
        {**UP, 'turnout_build_info{instance="b",version="2"}': "1x120"},
        {},
        {
            **UP,
            'turnout_build_info{instance="b",version="2"}': "1x20",
            'turnout_build_info{instance="c",version="1"}': "1x120",
        },
    ),
    "TurnoutDrainLong": Case(
        {_DRAINING: "0+60x120", _ACTIVE: "4x120"},
        ONE | {"phase": "draining"},
        {_DRAINING: "0+60x120", _ACTIVE: "0x120"},
    ),
    "TurnoutPrefixWrong": Case(_prefix(6000, 3000), {"pod": "1"}, _prefix(300, 300)),
}


def _tested(alert: Alert, case: Case, minute: int) -> list[dict[str, object]]:
    """promtool's tests of one alert: at `minute` it fires with these labels; and with the quiet series, at no time."""
    fires: dict[str, object] = {
        "interval": "1m",
        "input_series": [{"series": name, "values": values} for name, values in case.fires.items()],
        "alert_rule_test": [_expected(alert, 0, None), _expected(alert, minute, case.labels)],
    }
    quiet: dict[str, object] = {
        "interval": "1m",
        "input_series": [{"series": name, "values": values} for name, values in case.quiet.items()],
        "alert_rule_test": [_expected(alert, at, None) for at in range(0, minute + 1, 5)],
    }
    return [fires, quiet]


def _expected(alert: Alert, minute: int, labels: Mapping[str, str] | None) -> dict[str, object]:
    found = [] if labels is None else [{"exp_labels": {"severity": alert.severity, **labels}}]
    return {"eval_time": f"{minute}m", "alertname": alert.name, "exp_alerts": found}


def _rules() -> Mapping[str, dict[str, Any]]:
    """The rules of the file by the names of their alerts, without annotations."""
    (group,) = yaml.safe_load((ROOT / "deploy/prometheus/alerts.yaml").read_text())["groups"]
    return {rule["alert"]: {key: rule[key] for key in rule if key != "annotations"} for rule in group["rules"]}


@pytest.fixture(scope="module")
def verdicts(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, str]:
    """promtool's verdict on each alert, without other rules: a rule is evaluated each minute of each test."""
    folder, rules = tmp_path_factory.mktemp("rules"), _rules()
    for alert in ALERTS:
        (folder / f"{alert.name}.rules").write_text(
            yaml.safe_dump({"groups": [{"name": "one", "rules": [rules[alert.name]]}]})
        )
        test = {"rule_files": [f"{alert.name}.rules"], "tests": _tested(alert, CASES[alert.name], 110)}
        (folder / alert.name).write_text(yaml.safe_dump({"evaluation_interval": "1m", **test}))
    done = subprocess.run(["promtool", "test", "rules", *CASES], cwd=folder, stdout=PIPE, stderr=STDOUT, text=True)
    return dict(re.findall(r"^Unit Testing: +(\w+)\n((?s:.*?))(?=^Unit Testing|\Z)", done.stdout, re.MULTILINE))


def test_every_alert_has_a_case() -> None:
    assert list(CASES) == [alert.name for alert in ALERTS]


@pytest.mark.slow
@pytest.mark.needs("promtool")
@each_case("name", CASES)
def test_it_fires_on_its_series_and_not_on_quiet_ones(name: str, verdicts: Mapping[str, str]) -> None:
    assert verdicts[name].strip() == "SUCCESS", verdicts[name]


@pytest.mark.needs("promtool")
def test_prometheus_accepts_the_rule_file() -> None:
    done = subprocess.run(
        ["promtool", "check", "rules", ROOT / "deploy/prometheus/alerts.yaml"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{len(ALERTS)} rules found" in done.stdout


def test_the_kubernetes_overlay_has_the_same_rules() -> None:
    made = prometheus_rule(ALERTS)
    assert made["kind"] == "PrometheusRule"
    assert made["spec"] == groups(ALERTS)


@each_case("alert", ALERTS, ids=lambda alert: alert.name)
def test_its_runbook_links_to_an_existing_heading(alert: Alert) -> None:
    page, _, anchor = alert.runbook.partition("#")
    headings = re.findall(r"^#+ (.+)$", (ROOT / page).read_text(), re.MULTILINE)
    assert anchor in {heading.lower().replace(" ", "-") for heading in headings}


@pytest.mark.needs("promtool")
def test_a_pool_without_pods_and_a_pool_of_failing_ones_have_no_healthy_pod(tmp_path: Path) -> None:
    """Cases H 37 and H 38."""
    (alert,) = [alert for alert in ALERTS if alert.name == "TurnoutNoPod"]
    sized = 'turnout_pool_pods{instance="a",pool="p"}'
    well, failing = _pods("turnout_pod_routable", "0", "1"), _pods("turnout_pod_routable", "0", "0")
    tests = [
        test
        for fires in ({sized: "0x120"}, {sized: "2x120", **failing, **_pods("turnout_pod_kept", "0", "1")})
        for test in _tested(alert, Case(fires, POOL, {sized: "2x120", **well}), 110)
    ]
    (tmp_path / "rules").write_text(yaml.safe_dump({"groups": [{"name": "one", "rules": [_rules()[alert.name]]}]}))
    (tmp_path / "test").write_text(
        yaml.safe_dump({"evaluation_interval": "1m", "rule_files": ["rules"], "tests": tests})
    )
    done = subprocess.run(["promtool", "test", "rules", "test"], cwd=tmp_path, stdout=PIPE, stderr=STDOUT, text=True)
    assert done.returncode == 0, done.stdout
