"""Dashboard and alerts with two real gateways that share state, under traffic that moves every metric: no
expression names a missing metric or label, a real Prometheus accepts every one, every panel shows data.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

import httpx
import pytest

from loadtests.processes import redis_server
from router.access.keys import written_keys
from scripts.monitoring.alerts import ALERTS
from scripts.monitoring.panels import RATE
from scripts.monitoring.rollouts import GATES
from scripts.monitoring.rows import ROWS
from tests.fakes.gateway_process import PATIENT_HEALTH, GatewayProcess, config, pool, starting
from tests.fakes.known_keys import KEY, record
from tests.fakes.prometheus_process import Prometheus
from tests.fakes.promql import TARGET_LABELS, grouping, selectors
from tests.fakes.raw_http_client import Wire, endless, post
from tests.fakes.sim_process import MODEL, SimPods, sim_pods
from tests.fakes.waiting import DEADLINE_S, wait_for

ROOT = Path(__file__).resolve().parents[2]

pytestmark = [pytest.mark.slow, pytest.mark.needs("redis-server")]

VARIABLES = {RATE: "15s", "$namespace": ".*", "$instance": ".*", "$pool": ".*"}

QUERIES = {
    f"{row.title} / {panel.title} / {query.legend}": query
    for row in ROWS
    for panel in row.panels
    for query in panel.queries
}
EXPRESSIONS = {
    **{name: query.expr for name, query in QUERIES.items()},
    **{alert.name: alert.expr for alert in ALERTS},
    **{f"gate {gate.name}": gate.query for gate in GATES},
}

GUARDS = ("error_rate", "ttft_p50_ratio", "ttft_p95_ratio", "e2e_p95_ratio", "pool_p95_ratio", "tpot_p50_ratio")
TRIALS = {
    "canary": {"policy": "p2c", "percent": 50.0, "guard": dict.fromkeys(GUARDS, 0)},
    "shadow": {"policy": "least_load"},
}

UNSEEN = {
    "turnout_stream_moves_total": {"pool", "result"},
    "turnout_split_requests_total": {"pool", "served_by"},
    "turnout_trial_rollbacks_total": {"pool"},
    "turnout_policy_failures_total": {"pool", "policy", "reason"},
    "turnout_tls_certificate_expiry_timestamp_seconds": {"port"},
    "turnout_tls_files_failing": {"port"},
}
"""Metrics of failures that the tests of trials, of policies and of failover cause, those of ports with TLS, and their
labels."""

QUIET = {name for name, query in QUERIES.items() if any(each.metric in UNSEEN for each in selectors(query.expr))}
"""Series that stay empty in this test."""


def filled(expr: str) -> str:
    """The expression with Grafana's variables replaced, as Grafana does it."""
    for name, value in VARIABLES.items():
        expr = expr.replace(name, value)
    return expr


class Stage:
    """Two gateways, a Redis, two pods, and traffic that moves every counter."""

    def __init__(self, stack: ExitStack, directory: Path) -> None:
        server = stack.enter_context(redis_server.RedisServer(directory))
        self.pods: SimPods = stack.enter_context(sim_pods(3, directory / "pods.log", "--profile", "tiny"))
        *two, third = self.pods.urls
        keys = directory / "keys.yaml"
        keys.write_bytes(written_keys([record()]))
        shared = config(
            (),
            pools=[
                pool("default", two, policy={"name": "prefix_aware"}, cluster="here", slo={"ttft_s": 60.0}),
                pool("spare", [third], fallback=["default"]),
            ],
            auth={"keys_file": str(keys)},
            tenants=[{"name": "search", "targets": ["*"]}],
            control={"listen": "127.0.0.1:0", "audit_file": str(directory / "audit.jsonl")},
            state=server.url,
            health=PATIENT_HEALTH | {"eject_failures": 1, "eject_s": 0.2},
            retries={"budget_min": 1000},
        )
        self.gateways = [
            stack.enter_context(starting(shared | {"replica": name}, directory / name)) for name in ("a", "b")
        ]
        for gateway in self.gateways:
            gateway.wait_until_ready()
        for trial, body in TRIALS.items():
            answer = self.gateways[0].control.put(f"/admin/pools/default/{trial}", json=body)
            assert answer.status_code == 200, answer.text
        self.targets = [gateway.control.base_url.netloc.decode() for gateway in self.gateways]

    def traffic(self) -> None:
        """Requests through both: whole answers and streams, errors, a retry, a refusal, a client that leaves."""
        for at, gateway in enumerate(self.gateways):
            for stream in (False, True):
                answer = ask(gateway, stream=stream)
                assert answer.status_code == 200, answer.text
            assert ask(gateway, model="no-such-model").status_code == 404
            for kind in ("http_500", "http_503", "garbage"):
                self.pods.fault(self.pods.addresses[at], kind, count=1)
                ask(gateway)
            self.pods.fault(self.pods.addresses[2], "http_503")
            assert ask(gateway, pool="spare").headers["x-turnout-pod"] in self.pods.addresses[:2]
            with Wire(gateway.host, gateway.port) as wire:
                wire.send(post(endless(), f"api-key: {KEY}"))
                assert b" 200 " in wire.some()[:16]
            self.pods.well()

    @contextmanager
    def streaming(self) -> Iterator[None]:
        """Meanwhile a stream is in flight at the first gateway."""
        with Wire(self.gateways[0].host, self.gateways[0].port) as wire:
            wire.send(post(endless(), f"api-key: {KEY}"))
            assert b" 200 " in wire.some()[:16]
            yield

    def everything_counted(self) -> bool:
        """Whether the first gateway has ejected a pod, and compared picks with its shadow's, after one more round."""
        self.traffic()
        page = self.scraped()
        return "\nturnout_ejections_total{" in page and "\nturnout_shadow_agreement_ratio{" in page

    def scraped(self) -> str:
        """The first gateway's metrics."""
        return str(self.gateways[0].control.get("/metrics").raise_for_status().text)


def ask(gateway: GatewayProcess, *, stream: bool = False, model: str = MODEL, pool: str = "default") -> httpx.Response:
    """A request with a prompt long enough to have prefixes."""
    body: dict[str, object] = {
        "model": model,
        "max_tokens": 4,
        "messages": [{"role": "system", "content": "Answer briefly. " * 200}, {"role": "user", "content": "Hello"}],
    }
    if stream:
        body |= {"stream": True, "stream_options": {"include_usage": True}}
    url, headers = f"{gateway.url}/v1/chat/completions", {"x-turnout-pool": pool, "api-key": KEY}
    return httpx.post(url, json=body, headers=headers, trust_env=False, verify=False, timeout=DEADLINE_S)


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """The gateways after rounds of traffic: a request may miss the pod that would have answered with an error."""
    with ExitStack() as stack:
        made = Stage(stack, tmp_path_factory.mktemp("stage"))
        wait_for("everything is counted", made.everything_counted)
        yield made


@pytest.fixture(scope="module")
def samples(stage: Stage) -> dict[str, set[str]]:
    """Sample name -> its labels in a real scrape."""
    found: dict[str, set[str]] = {}
    for line in stage.scraped().splitlines():
        if not line.startswith("#"):
            name, _, labels = line.rpartition(" ")[0].partition("{")
            found.setdefault(name, set()).update(re.findall(r'(\w+)="', labels))
    assert not found.keys() & UNSEEN
    return found | UNSEEN


@pytest.mark.parametrize("name", EXPRESSIONS)
def test_an_expression_names_only_existing_metrics_and_labels(name: str, samples: dict[str, set[str]]) -> None:
    expr = EXPRESSIONS[name]
    known = set(TARGET_LABELS)
    assert selectors(expr)
    for metric, labels in selectors(expr):
        assert metric in samples, f"{metric} is no metric of the gateway"
        assert labels <= samples[metric] | TARGET_LABELS, f"{metric} has no label {labels - samples[metric]}"
        known |= samples[metric]
    assert grouping(expr) <= known


@pytest.mark.parametrize("name", QUERIES)
def test_the_lines_of_a_panel_are_named_by_labels_that_the_expression_keeps(name: str) -> None:
    query = QUERIES[name]
    named = set(re.findall(r"\{\{(\w+)\}\}", query.legend))
    kept = grouping(query.expr) if grouping(query.expr) else named
    assert named <= kept


def test_every_metric_of_the_gateway_is_on_the_dashboard(stage: Stage) -> None:
    families = set(re.findall(r"^# TYPE (turnout_\w+) ", stage.scraped(), re.MULTILINE))
    shown = {selector.metric for query in QUERIES.values() for selector in selectors(query.expr)}
    bare = {re.sub(r"_(total|bucket)$", "", metric) for metric in shown}
    missing = {family for family in families if family.removesuffix("_total") not in bare}
    assert missing == set(), "give each a panel in a row of scripts/monitoring"


@pytest.mark.needs("prometheus")
def test_a_real_prometheus_answers_every_expression_and_no_panel_is_empty(stage: Stage, tmp_path: Path) -> None:
    scrape = {"job_name": "turnout", "honor_labels": True, "static_configs": [{"targets": stage.targets}]}
    # A scrape that takes longer counts as failed, and marks the series as gone.
    every = {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"}
    rules = [str(ROOT / "deploy/prometheus/alerts.yaml")]
    prometheus = Prometheus({"global": every, "rule_files": rules, "scrape_configs": [scrape]}, tmp_path)
    try:
        wait_for("it is ready", prometheus.ready)
        wait_for("it reads both gateways", lambda: prometheus.healthy_targets() == len(stage.targets))
        waiting = {name: filled(query.expr) for name, query in QUERIES.items() if name not in QUIET}
        try:
            wait_for("every panel has data", partial(none_left, stage, prometheus, waiting))
        except AssertionError:
            raise AssertionError(f"without data: {', '.join(waiting)}") from None
        for expr in EXPRESSIONS.values():
            prometheus.query(filled(expr))
        assert {rule["name"] for rule in prometheus.rules()} == {alert.name for alert in ALERTS}
        wait_for("every rule was evaluated", lambda: all(rule["health"] == "ok" for rule in prometheus.rules()))
    finally:
        prometheus.stop()


def none_left(stage: Stage, prometheus: Prometheus, waiting: dict[str, str]) -> bool:
    """One more round of traffic; removes from `waiting` the series that have data."""
    # Some panels have data only while requests are in flight. A stream lasts half a minute, and a pod that was ejected
    # a moment ago may take none, so each round has one of its own.
    with stage.streaming():
        stage.traffic()
        for name, expr in list(waiting.items()):
            if prometheus.query(expr):
                del waiting[name]
    return not waiting
