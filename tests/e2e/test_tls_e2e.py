"""TLS on the gateway's own ports: certificates that change under load, clients' certificates, what is no TLS."""

from __future__ import annotations

import asyncio
import json
import signal
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import aiohttp
import pytest

from tests.fakes.certificates import Authority, IssuedPair
from tests.fakes.endless_stream_pod import hose_pod
from tests.fakes.gateway_process import GatewayProcess, config, pool, running, starting
from tests.fakes.raw_http_client import Wire, ask, chat, endless, events, get, post
from tests.fakes.sim_process import SimPods
from tests.fakes.waiting import DEADLINE_S, until, wait_for
from tests.fakes.websocket_pods import WebSocketPod, websocket_pods
from tests.fakes.worker_processes import workers

pytestmark = [pytest.mark.slow, pytest.mark.needs("openssl")]

HOST = "127.0.0.1"
STREAMERS = 6
SWAPS = 3
SLOW = 8
HELD = 4 << 20
"""Bytes of memory that one client which does not read may cost, with the buffers of its TLS and of its pod."""


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def clients(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("clients"), "clients")


@pytest.fixture(scope="module")
def pair(authority: Authority, tmp_path_factory: pytest.TempPathFactory) -> IssuedPair:
    """The gateway's certificate, in files that tests replace."""
    directory = tmp_path_factory.mktemp("secret")
    pair = IssuedPair(directory / "tls.crt", directory / "tls.key")
    pair.replace(authority.issue())
    return pair


@pytest.fixture(scope="module")
def websockets() -> Iterator[WebSocketPod]:
    with websocket_pods(1) as (pod,):
        yield pod


@pytest.fixture(scope="module")
def gateway(
    all_sims: SimPods, websockets: WebSocketPod, pair: IssuedPair, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[GatewayProcess]:
    tls = {"cert_file": str(pair.cert), "key_file": str(pair.key)}
    settings = config(
        (),
        pools=[pool("default", all_sims.urls[:2]), pool("sockets", [websockets.base], models=["spoken"])],
        tls=tls,
        control={"listen": f"{HOST}:0", "tls": tls},
        logging={"format": "json", "level": "info", "access": True},
    )
    with running(settings, tmp_path_factory.mktemp("gateway"), ["keeps the certificate read before"]) as gateway:
        yield gateway


def trusting(authority: Authority, shown: IssuedPair | None = None) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(authority.cert))
    if shown is not None:
        context.load_cert_chain(shown.cert, shown.key)
    return context


class Streamers:
    """Clients in threads that stream answers, each second one over a new connection, until they are stopped."""

    def __init__(self, port: int, context: ssl.SSLContext) -> None:
        self.done = 0
        self.failed: list[BaseException] = []
        self._stop = threading.Event()
        self._port = port
        self._context = context
        self._threads = [threading.Thread(target=self._run, args=(at % 2 == 0,)) for at in range(STREAMERS)]

    def __enter__(self) -> Streamers:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *raised: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def go_on(self) -> None:
        """Wait until further streams have ended, or one has failed."""
        enough = self.done + STREAMERS
        wait_for("streams go on", lambda: self.failed or self.done > enough)

    def _run(self, anew: bool) -> None:
        wire: Wire | None = None
        try:
            while not self._stop.is_set():
                if wire is None:
                    wire = Wire(HOST, self._port, tls=self._context)
                answer = ask(wire, post(chat(stream=True, max_tokens=40, ignore_eos=True)))
                assert answer.status == 200
                assert events(answer.body)[-1] == "[DONE]"
                self.done += 1
                if anew or answer.headers.get("connection") == "close":
                    wire.close()
                    wire = None
        except BaseException as error:  # noqa: BLE001  the test shows it
            self.failed.append(error)
        finally:
            if wire is not None:
                wire.close()


def serial_of(port: int, context: ssl.SSLContext) -> str:
    with Wire(HOST, port, tls=context) as wire:
        return wire.serial


def test_certificates_change_under_load_and_no_request_fails(
    gateway: GatewayProcess, authority: Authority, pair: IssuedPair
) -> None:
    context = trusting(authority)
    control = int(str(gateway.control.base_url).rstrip("/").rpartition(":")[2])
    with Wire(HOST, gateway.port, tls=context) as old, Streamers(gateway.port, context) as streamers:
        first = old.serial
        old.send(post(endless(tokens=1000)))
        seen = [first]
        for _ in range(SWAPS):
            pair.replace(authority.issue())
            seen.append(wait_for("a new serial", lambda: _other(serial_of(gateway.port, context), seen[-1])))
            wait_for("it on the control port", lambda: serial_of(control, context) == seen[-1])
            streamers.go_on()
        assert events(old.answer().body)[-1] == "[DONE]"
        assert ask(old, post(chat())).status == 200  # the connection is as old as the first certificate
        assert old.serial == first
    assert streamers.failed == []
    assert len(set(seen)) == SWAPS + 1
    assert gateway.metric("turnout_tls_files_failing") == 0


def _other(found: str, last: str) -> str | None:
    return found if found != last else None


def test_a_bad_file_keeps_the_certificate_and_is_shown(
    gateway: GatewayProcess, authority: Authority, pair: IssuedPair
) -> None:
    context = trusting(authority)
    serial = serial_of(gateway.port, context)
    ends = gateway.metric("turnout_tls_certificate_expiry_timestamp_seconds", port="inference")
    assert ends > 1.7e9
    pair.cert.write_text("no certificate")
    wait_for("it is shown", lambda: gateway.metric("turnout_tls_files_failing") == 2)
    assert serial_of(gateway.port, context) == serial
    assert gateway.control.get("/readyz").status_code == 200
    assert any(line["level"] == "error" and "cert_file" in line["msg"] for line in gateway.lines())
    pair.replace(authority.issue())
    wait_for("it is over", lambda: gateway.metric("turnout_tls_files_failing") == 0)


@pytest.mark.parametrize("port", ["inference", "control"])
def test_plain_http_gets_an_answer_in_plain_http(gateway: GatewayProcess, port: str) -> None:
    control = int(str(gateway.control.base_url).rstrip("/").rpartition(":")[2])
    with Wire(HOST, gateway.port if port == "inference" else control) as wire:
        answer = ask(wire, post(chat("x" * 100_000)))
        assert answer.status == 400
        assert "use https://" in answer.json()["error"]["message"]
        assert wire.closed()


def test_tls_to_a_port_without_it_is_answered_and_closed(all_sims: SimPods, tmp_path: Path) -> None:
    with running(config(all_sims.urls[:1]), tmp_path) as plain:
        with pytest.raises(ssl.SSLError, match="WRONG_VERSION_NUMBER"):
            Wire(HOST, plain.port, tls=ssl.create_default_context())


def test_a_websocket_over_tls_passes_messages_both_ways(gateway: GatewayProcess, authority: Authority) -> None:
    async def talk() -> None:
        url = f"wss://{HOST}:{gateway.port}/v1/realtime?model=spoken"
        async with (
            aiohttp.ClientSession() as session,
            session.ws_connect(url, ssl=trusting(authority), max_msg_size=0) as socket,
        ):
            assert (await socket.receive_str(timeout=DEADLINE_S)).startswith("http://")
            await socket.send_bytes(bytes(1_000_000))
            assert await socket.receive_bytes(timeout=DEADLINE_S) == bytes(1_000_000)
            wire = socket.get_extra_info("socket")
        await until(lambda: wire.fileno() < 0)  # the client leaves TLS's last words to a loop that may be gone

    asyncio.run(talk())


def test_the_cli_reaches_a_control_port_with_tls(gateway: GatewayProcess, authority: Authority) -> None:
    command = [sys.executable, "-m", "router", "pods", "--json", "--control", str(gateway.control.base_url)]
    done = subprocess.run([*command, "--ca-file", str(authority.cert)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert len(json.loads(done.stdout)) == 3
    refused = subprocess.run(command, capture_output=True, text=True)
    assert (refused.returncode, "certificate" in refused.stderr) == (2, True)


@pytest.fixture
def listed(clients: Authority, tmp_path: Path) -> Path:
    """The clients' revocations, in a file that tests replace."""
    listed = tmp_path / "clients.crl"
    listed.write_bytes(clients.revocations().read_bytes())
    return listed


def test_a_revoked_client_is_refused_and_its_open_connection_ends(
    all_sims: SimPods, authority: Authority, clients: Authority, listed: Path, tmp_path: Path
) -> None:
    server, one, other = authority.issue(), clients.issue(), clients.issue()
    tls = {"cert_file": server.cert, "key_file": server.key, "client_ca_file": clients.cert, "crl_file": listed}
    settings = config(all_sims.urls[:1], tls={name: str(path) for name, path in tls.items()})
    revoked, fine = trusting(authority, one), trusting(authority, other)
    with running(settings, tmp_path / "gateway") as gateway:
        with pytest.raises(ssl.SSLError, match="CERTIFICATE_REQUIRED"):
            _asks(gateway, trusting(authority))
        assert _asks(gateway, revoked) == 200
        with Wire(HOST, gateway.port, tls=revoked) as open_before, Wire(HOST, gateway.port, tls=fine) as fine_before:
            assert ask(open_before, post(chat())).headers.get("connection") != "close"
            listed.write_bytes(clients.revocations(one).read_bytes())
            wait_for("it is refused", lambda: _refused(gateway, revoked))
            assert _asks(gateway, fine) == 200
            for wire in (open_before, fine_before):
                assert ask(wire, post(chat())).headers["connection"] == "close"
                assert wire.closed()
        assert gateway.metric("turnout_tls_handshake_failures_total", reason="revoked") >= 1
        assert gateway.metric("turnout_tls_handshake_failures_total", reason="no_certificate") == 1


def test_a_certificate_names_its_tenant_until_it_is_revoked(
    all_sims: SimPods, authority: Authority, clients: Authority, listed: Path, tmp_path: Path
) -> None:
    server, alice, other = authority.issue(), clients.issue("URI:spiffe://test/alice"), clients.issue()
    tls = {"cert_file": server.cert, "key_file": server.key, "client_ca_file": clients.cert, "crl_file": listed}
    tenant = {"name": "search", "certificates": ["URI:spiffe://test/alice"]}
    settings = config(all_sims.urls[:1], tls={name: str(path) for name, path in tls.items()}, auth={}, tenants=[tenant])
    with running(settings, tmp_path / "gateway") as gateway:
        known, session = trusting(authority, alice), None
        for _ in range(2):
            with Wire(HOST, gateway.port, tls=known, session=session) as wire:
                assert wire.resumed is bool(session)
                assert ask(wire, post(chat(), "authorization: Bearer any")).status == 200
                session = wire.session
        assert gateway.metric("turnout_tenant_requests_total", tenant="search") == 2, "a resumed session, too"
        assert _asks(gateway, trusting(authority, other)) == 401
        listed.write_bytes(clients.revocations(alice).read_bytes())
        wait_for("it is refused", lambda: _refused(gateway, trusting(authority, alice)))


def _asks(gateway: GatewayProcess, context: ssl.SSLContext) -> int:
    with Wire(HOST, gateway.port, tls=context) as wire:
        return ask(wire, post(chat())).status


def _refused(gateway: GatewayProcess, context: ssl.SSLContext) -> bool:
    try:
        _asks(gateway, context)
    except ssl.SSLError as error:
        return "CERTIFICATE_REVOKED" in str(error)
    return False


def test_a_client_that_does_not_read_pauses_its_pod(authority: Authority, pair: IssuedPair, tmp_path: Path) -> None:
    tls = {"cert_file": str(pair.cert), "key_file": str(pair.key)}
    with hose_pod() as hose, running(config([hose.url], tls=tls), tmp_path) as gateway, ExitStack() as stack:
        before = gateway.rss_bytes()
        for _ in range(SLOW):
            wire = stack.enter_context(Wire(HOST, gateway.port, tls=trusting(authority), receive_bytes=65536))
            wire.send(post(chat(model="hose", stream=True)))
            assert wire.some()
        wait_for("all streams wait", lambda: hose.stuck == SLOW)
        assert gateway.rss_bytes() - before < SLOW * HELD
        stack.close()


@pytest.mark.realtime
def test_a_roll_of_workers_under_load_loses_no_request(
    all_sims: SimPods, authority: Authority, pair: IssuedPair, tmp_path: Path
) -> None:
    settings = config(all_sims.urls[:2], tls={"cert_file": str(pair.cert), "key_file": str(pair.key)})
    with (
        workers(tmp_path, settings) as gateway,
        Streamers(gateway.port, trusting(authority)) as streamers,
    ):
        streamers.go_on()
        gateway.roll()
        streamers.go_on()
    assert streamers.failed == []


def test_a_drain_finishes_streams_and_says_that_the_connection_ends(
    all_sims: SimPods, authority: Authority, pair: IssuedPair, tmp_path: Path
) -> None:
    settings = config(all_sims.urls[:1], tls={"cert_file": str(pair.cert), "key_file": str(pair.key)})
    context = trusting(authority)
    with starting(settings, tmp_path) as gateway:
        gateway.wait_until_ready()
        with Wire(HOST, gateway.port, tls=context) as busy, Wire(HOST, gateway.port, tls=context) as idle:
            assert ask(idle, get("/v1/models")).status == 200
            busy.send(post(endless(tokens=3000)))  # it lasts 6 s: a busy machine sees it in flight
            wait_for("it is in flight", lambda: gateway.inflight() == 1)
            gateway.signal(signal.SIGTERM)
            assert idle.some() == b""  # an end of TLS, not one of TCP alone: that raises ssl.SSLEOFError
            assert events(busy.answer().body)[-1] == "[DONE]"
            assert busy.some() == b""
        assert gateway.ended() == 0
