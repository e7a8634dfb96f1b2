"""Traces as a collector sees them: one tree over gateway and engine, and what is there while the collector is not."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.fakes.gateway_process import GatewayProcess, config, running
from tests.fakes.otlp_receiver import OtlpReceiver, otlp_receiver
from tests.fakes.prometheus_process import Prometheus
from tests.fakes.sim_process import MODEL, SimPods, sim_pods
from tests.fakes.waiting import DEADLINE_S, wait_for
from tests.fakes.worker_processes import workers

pytestmark = pytest.mark.slow

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
UNSENT = ["Failed to export spans", "Transient error"]


@pytest.fixture(scope="module")
def receiver() -> Iterator[OtlpReceiver]:
    with otlp_receiver() as receiver:
        yield receiver


@pytest.fixture(scope="module")
def pods(receiver: OtlpReceiver, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimPods]:
    log = tmp_path_factory.mktemp("traced") / "sims.log"
    with sim_pods(2, log, "--otlp-traces-endpoint", f"{receiver.url}/v1/traces") as pods:
        yield pods


def traced(url: str, pods: SimPods, ratio: float = 0.0, **sections: object) -> dict[str, object]:
    return config(pods.urls, telemetry={"otlp_endpoint": url, "sample_ratio": ratio}, **sections)


def ask(gateway: GatewayProcess, trace: str, *, sampled: bool = True) -> None:
    """A streamed chat as a part of this trace; the receiver has the traces of all tests."""
    answer = httpx.post(
        f"{gateway.url}/v1/chat/completions",
        json={
            "model": MODEL,
            "stream": True,
            "stream_options": {"include_usage": True},
            "max_tokens": 4,
            "messages": [{"role": "user", "content": "What is a turnout?"}],
        },
        headers={"traceparent": f"00-{trace}-{SPAN}-0{int(sampled)}", "tracestate": "vendor=1"},
        timeout=DEADLINE_S,
        trust_env=False,
    )
    assert answer.status_code == 200


def shown(receiver: OtlpReceiver, trace: str) -> list[tuple[int, str, str]]:
    """The tree of a trace: depth, service and name of each span."""
    return [(depth, span.resource["service.name"], span.name) for depth, span in receiver.tree(trace)]


def wait_for_spans(receiver: OtlpReceiver, trace: str, service: str = "turnout") -> None:
    wait_for(
        f"spans of {service}",
        lambda: any(span.trace_id == trace and span.resource["service.name"] == service for span in receiver.spans),
    )


def test_one_request_is_one_tree_over_gateway_and_engine(receiver: OtlpReceiver, pods: SimPods, tmp_path: Path) -> None:
    with running(traced(receiver.url, pods), tmp_path) as gateway:
        ask(gateway, TRACE)
        ask(gateway, "1" * 32, sampled=False)
        wait_for_spans(receiver, TRACE, "vllm-sim")
    # The drain has sent what waited.
    assert shown(receiver, TRACE) == [
        (0, "turnout", "POST /v1/chat/completions"),
        (1, "turnout", "decision"),
        (1, "turnout", f"chat {MODEL}"),
        (2, "vllm-sim", "llm_request"),
        (1, "turnout", "relay"),
    ]
    tree = [span for _, span in receiver.tree(TRACE)]
    assert (tree[0].parent_id, tree[0].kind, tree[0].state) == (SPAN, "SERVER", "vendor=1")
    attempt = tree[2]
    assert attempt.attributes["gen_ai.usage.output_tokens"] == 4
    assert attempt.attributes["server.port"] == int(attempt.attributes["turnout.pod"].rpartition(":")[2])
    for _, span in receiver.tree(TRACE):
        assert tree[0].start_ns <= span.start_ns
    assert [span for span in receiver.spans if span.trace_id == "1" * 32] == []


def test_every_attempt_is_in_the_tree(receiver: OtlpReceiver, pods: SimPods, tmp_path: Path) -> None:
    trace = "2" * 32
    with running(traced(receiver.url, pods, health={"timeout_s": DEADLINE_S, "failures": 1000}), tmp_path) as gateway:
        pods.fault(pods.addresses[0], "http_503")
        try:
            wait_for("a request met the pod that fails", lambda: _met(gateway, receiver, trace))
        finally:
            pods.well()


def _met(gateway: GatewayProcess, receiver: OtlpReceiver, trace: str) -> bool:
    """Ask until a tree has two attempts; each request is a trace of its own."""
    own = f"{int(trace, 16) + len(receiver.spans):032x}"
    ask(gateway, own)
    wait_for_spans(receiver, own)
    attempts = [span for _, span in receiver.tree(own) if span.kind == "CLIENT"]
    if len(attempts) == 1:
        return False
    first, second = attempts
    assert (first.attributes["error.type"], first.failed) == ("503", True)
    assert (second.attributes["http.request.resend_count"], second.failed) == (1, False)
    return True


def test_a_dead_collector_costs_spans_only(pods: SimPods, tmp_path: Path) -> None:
    with running(traced("http://127.0.0.1:1", pods, 1.0), tmp_path, UNSENT) as gateway:
        ask(gateway, "5" * 32)
        wait_for("lost spans are counted", lambda: gateway.metric("turnout_spans_total", result="failed") >= 4)
        ask(gateway, "5" * 32)
        assert gateway.metric("turnout_spans_total", result="exported") == 0


def test_workers_send_their_own_spans(receiver: OtlpReceiver, pods: SimPods, tmp_path: Path) -> None:
    trace = "3" * 32
    with workers(tmp_path, traced(receiver.url, pods)) as gateway:
        ask(gateway, trace)
        wait_for_spans(receiver, trace)
    assert shown(receiver, trace)[0] == (0, "turnout", "POST /v1/chat/completions")


@pytest.mark.needs("prometheus")
def test_prometheus_keeps_the_trace_of_a_slow_request(receiver: OtlpReceiver, pods: SimPods, tmp_path: Path) -> None:
    trace = "4" * 32
    with running(traced(receiver.url, pods), tmp_path / "gateway") as gateway:
        ask(gateway, trace)
        target = str(gateway.control.base_url).removeprefix("http://").rstrip("/")
        scrape = {"job_name": "turnout", "scrape_interval": "1s", "static_configs": [{"targets": [target]}]}
        prometheus = Prometheus(
            {"scrape_configs": [scrape]}, tmp_path / "prometheus", "--enable-feature=exemplar-storage"
        )
        try:
            wait_for("Prometheus is ready", prometheus.ready)
            for name in ("turnout_time_to_first_token_seconds", "turnout_e2e_request_latency_seconds"):
                wait_for("an exemplar", lambda name=name: trace in prometheus.exemplars(f"{name}_bucket"))  # type: ignore[misc]
        finally:
            prometheus.stop()
