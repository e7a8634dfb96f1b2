"""The drain: what clients of a gateway see from its SIGTERM to its exit, under load. Each test has its own gateway."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx
import pytest

from tests.fakes.gateway_process import GatewayProcess, config, starting
from tests.fakes.raw_http_client import Wire, chat, endless, events, get, post
from tests.fakes.sim_process import SimPods
from tests.fakes.waiting import DEADLINE_S, wait_for

pytestmark = pytest.mark.slow


@contextmanager
def leaving(sims: SimPods, directory: Path, *, settle_s: float, timeout_s: float) -> Iterator[GatewayProcess]:
    """A ready gateway that the block ends; its log must contain no error."""
    settings = config(sims.urls[:2], drain={"settle_s": settle_s, "timeout_s": timeout_s})
    with starting(settings, directory / "gateway") as gateway:
        gateway.wait_until_ready()
        yield gateway
        assert gateway.complaints() == []


@contextmanager
def streams_of(gateway: GatewayProcess, tokens: int, count: int = 1) -> Iterator[list[Wire]]:
    """Streams of `tokens` tokens, at 2 ms each or more, that have begun. Who looks at them while they last gives
    a busy machine seconds for that."""
    with ExitStack() as stack:
        wires = [stack.enter_context(Wire("127.0.0.1", gateway.port)) for _ in range(count)]
        for wire in wires:
            wire.send(post(endless(tokens=tokens)))
        assert all(wire.readable() for wire in wires)
        yield wires


def readiness(gateway: GatewayProcess) -> int:
    """The status of /readyz, as a load balancer gets it."""
    return gateway.control.get("/readyz").status_code


def keep_asking(port: int, over: threading.Event) -> bool:
    """A client that sends requests until `over` or an answer with `connection: close`; returns whether one came. All
    answers must be whole."""
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False, verify=False, timeout=DEADLINE_S) as client:
        while not over.is_set():
            answer = client.post("/v1/chat/completions", json=chat(stream=True, max_tokens=20))
            assert answer.status_code == 200
            assert answer.text.endswith("data: [DONE]\n\n")
            if answer.headers.get("connection") == "close":
                return True
    return False


def test_a_drain_under_load_fails_no_request(sims: SimPods, tmp_path: Path) -> None:
    """A client closes after its first `connection: close`. A second SIGTERM ends the settling once all have, however
    long the machine takes for an answer."""
    over = threading.Event()
    with leaving(sims, tmp_path, settle_s=600.0, timeout_s=600.0) as gateway, ThreadPoolExecutor(4) as threads:
        users = [threads.submit(keep_asking, gateway.port, over) for _ in range(4)]
        try:
            wait_for("the load is on", lambda: answered(gateway) >= 20)
            assert not any(user.done() for user in users)
            gateway.signal()
            assert [user.result(DEADLINE_S) for user in users] == [True] * 4
        finally:
            over.set()
        gateway.signal()
        assert gateway.ended() == 0


def test_a_drain_closes_the_port_and_idle_connections_and_cuts_no_stream(sims: SimPods, tmp_path: Path) -> None:
    with (
        leaving(sims, tmp_path, settle_s=0.0, timeout_s=600.0) as gateway,
        Wire("127.0.0.1", gateway.port) as idle,
        streams_of(gateway, 3000, 4) as long,
    ):
        idle.send(get("/livez"))
        assert idle.answer().status == 200
        gateway.signal()
        wait_for("the port refuses connections", lambda: not accepts(gateway))
        assert idle.closed()
        for wire in long:
            answer = wire.answer()
            assert answer.complete
            assert events(answer.body)[-1] == "[DONE]"
            assert len(events(answer.body)) > 3000
            assert wire.closed()
        assert gateway.ended() == 0
        assert any("accepting no more; 4 requests in flight" in str(line["msg"]) for line in gateway.lines())


def answered(gateway: GatewayProcess) -> float:
    return gateway.metric("turnout_requests_total", status="200")


def test_an_operators_drain_acts_as_sigterm_and_a_second_one_changes_nothing(sims: SimPods, tmp_path: Path) -> None:
    """While it settles it is not ready, and answers requests with `connection: close`, until a second SIGTERM."""
    with leaving(sims, tmp_path, settle_s=600.0, timeout_s=600.0) as gateway:
        with Wire("127.0.0.1", gateway.port) as old:
            old.send(post(chat()))
            assert "connection" not in old.answer().headers
            for _ in range(2):
                assert gateway.control.post("/admin/drain").status_code == 202
            wait_for("it is not ready", lambda: readiness(gateway) == 503)
            with Wire("127.0.0.1", gateway.port) as new:
                new.send(get("/readyz"))
                answer = new.answer()
                assert (answer.status, answer.json()["status"]) == (503, "settling")
                assert answer.headers["connection"] == "close"
                assert new.closed()
            with Wire("127.0.0.1", gateway.port) as new:
                new.send(get("/livez"))
                assert new.answer().status == 200
            old.send(post(chat()))
            answer = old.answer()
            assert (answer.status, answer.headers["connection"]) == (200, "close")
            assert old.closed()
        assert gateway.exit_status is None
        gateway.signal()
        assert gateway.ended() == 0


def accepts(gateway: GatewayProcess) -> bool:
    try:
        with Wire("127.0.0.1", gateway.port):
            return True
    except ConnectionRefusedError:
        return False


def test_requests_that_outlast_the_drain_end_with_an_error_event_or_a_503(sims: SimPods, tmp_path: Path) -> None:
    with leaving(sims, tmp_path, settle_s=0.0, timeout_s=0.3) as gateway:
        with streams_of(gateway, 16_000, 5) as wires, Wire("127.0.0.1", gateway.port) as unanswered:
            for pod in sims.addresses[:2]:
                sims.fault(pod, "hang")
            unanswered.send(post(chat()))
            wait_for("all are in flight", lambda: gateway.inflight() == 6)
            gateway.signal()
            refusal = unanswered.answer()
            assert (refusal.status, refusal.error["code"]) == (503, "gateway_draining")
            for wire in wires:
                answer = wire.answer()
                assert not answer.complete
                assert events(answer.body)[-1]["error"]["code"] == "gateway_draining"
                assert "choices" in events(answer.body)[-2]
        assert gateway.ended() == 0
        wait_for("no pod has an open request", lambda: sims.total("open_requests") == 0)


def test_a_second_signal_ends_the_gateway_at_once(sims: SimPods, tmp_path: Path) -> None:
    """Settling and draining would take ten minutes each; the test's time limit is far below."""
    with leaving(sims, tmp_path, settle_s=600.0, timeout_s=600.0) as gateway:
        with streams_of(gateway, 16_000) as (wire,):
            gateway.signal()
            wait_for("it settles", lambda: readiness(gateway) == 503)
            gateway.signal(signal.SIGINT)
            answer = wire.answer()
            assert events(answer.body)[-1]["error"]["code"] == "gateway_draining"
        assert gateway.ended() == 0


def test_a_gateway_without_any_live_pod_still_ends(sims: SimPods, tmp_path: Path) -> None:
    """It serves cold after its warm-up timeout; a signal before that ends it too."""
    for pod in sims.addresses[:2]:
        sims.fault(pod, "refuse")
    with starting(config(sims.urls[:2], warmup_timeout_s=600.0), tmp_path / "gateway") as gateway:
        assert readiness(gateway) == 503
        gateway.signal()
        assert gateway.ended() == 0
        assert gateway.complaints() == []
