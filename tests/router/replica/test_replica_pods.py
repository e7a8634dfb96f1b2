"""A whole replica in front of pods as they are: TLS with certificates that change and that are wrong, sockets, base
paths, keys. Real sockets, real certificates, both event loops.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import uvloop

from loadtests.processes.stream_server import stream_server
from loadtests.sim.ports import HOST
from router.replica.build import build
from router.replica.replica import Replica
from router.settings import Health, Pool, PoolUpstream, Retries, Settings, Timeouts, UpstreamTls
from tests.fakes.certificates import Authority, IssuedPair, serving
from tests.fakes.local_replica import ASK, ask, settings
from tests.fakes.recording_pod import RecordingPod
from tests.fakes.waiting import DEADLINE_S, until

Run = Callable[[Coroutine[Any, Any, None]], None]


@pytest.fixture(params=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Run:
    """Runs a coroutine on one of the loops that a gateway may have."""

    def runs(story: Coroutine[Any, Any, None]) -> None:
        factory = uvloop.new_event_loop if request.param == "uvloop" else None
        with asyncio.Runner(loop_factory=factory) as runner:
            runner.run(asyncio.wait_for(story, DEADLINE_S))

    return runs


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("tls"), "old authority")


@asynccontextmanager
async def serves(config: Settings) -> AsyncIterator[Replica]:
    replica = Replica(build(config))
    await replica.start()
    try:
        yield replica
    finally:
        replica.stop(hurry=True)
        await replica.drain()


def _pool(*pods: str, name: str = "main", models: tuple[str, ...] = ("m",), **upstream: object) -> Pool:
    return Pool(name=name, pods=list(pods), models=list(models), upstream=PoolUpstream(**upstream))  # type: ignore[arg-type]


def _tls(authority: Path, mine: IssuedPair | None = None) -> UpstreamTls:
    if mine is None:
        return UpstreamTls(ca_file=str(authority))
    return UpstreamTls(ca_file=str(authority), cert_file=str(mine.cert), key_file=str(mine.key))


def _posting(model: str, *headers: str) -> bytes:
    body = json.dumps({"model": model, "messages": []}).encode()
    head = "".join(f"{line}\r\n" for line in ("host: g", *headers, f"content-length: {len(body)}"))
    return b"POST /v1/chat/completions HTTP/1.1\r\n%b\r\n%b" % (head.encode(), body)


class _Load:
    """Clients that ask again and again, each over a new connection to a pod."""

    def __init__(self, port: int) -> None:
        self._port = port
        self.statuses: list[bytes] = []
        self._stopping = False

    async def client(self) -> None:
        while not self._stopping:
            self.statuses.append((await ask(self._port)).partition(b"\r\n")[0])

    async def more(self, count: int) -> None:
        """Wait until so many further requests were answered."""
        wanted = len(self.statuses) + count
        await until(lambda: len(self.statuses) >= wanted)

    def stop(self) -> None:
        self._stopping = True


@pytest.mark.slow
def test_certificates_are_replaced_under_load_and_no_request_fails(
    run: Run, authority: Authority, tmp_path: Path
) -> None:
    """Case D 17: the pods' certificate, the gateway's, and the authority of both."""
    new = Authority(tmp_path, "new authority")
    trusted, mine = tmp_path / "trusted.pem", IssuedPair(tmp_path / "tls.crt", tmp_path / "tls.key")
    trusted.write_bytes(authority.cert.read_bytes())
    for to, source in zip(mine, authority.issue("DNS:gateway"), strict=True):
        to.write_bytes(source.read_bytes())
    server = serving(authority.issue(), clients=authority)
    server.load_verify_locations(new.cert)
    pod = RecordingPod()
    pod.keep_alive = False

    async def story() -> None:
        async with stream_server(pod.handle, tls=server) as one, stream_server(pod.handle, tls=server) as two:
            pool = _pool(f"https://{HOST}:{one}", f"https://{HOST}:{two}", tls=_tls(trusted, mine))
            retries = Retries(attempts=0)  # what fails is seen
            async with serves(settings(pools=[pool], retries=retries)) as replica, asyncio.TaskGroup() as clients:
                load = _Load(replica.port)
                for _ in range(4):
                    clients.create_task(load.client())
                await load.more(20)
                trusted.write_bytes(authority.cert.read_bytes() + new.cert.read_bytes())
                await load.more(20)
                fresh = new.issue()
                server.load_cert_chain(fresh.cert, fresh.key)
                mine.replace(new.issue("DNS:gateway"))
                await load.more(20)
                trusted.write_bytes(new.cert.read_bytes())
                await load.more(20)
                load.stop()
            assert set(load.statuses) == {b"HTTP/1.1 200 OK"}
        shown = [each.issuer for each in pod.posts]
        assert shown[0] == "old authority"
        assert shown[-1] == "new authority"

    run(story())


@pytest.mark.parametrize(
    ("san", "days", "trusts", "reason"),
    [
        (f"IP:{HOST}", 2, False, "unable to get local issuer certificate; set upstream.tls.ca_file"),
        ("DNS:elsewhere", 2, True, "IP address mismatch"),
        (f"IP:{HOST}", -1, True, "certificate has expired"),
    ],
    ids=["unknown authority", "another name", "expired"],
)
def test_a_pod_whose_certificate_is_wrong_gets_no_request_and_the_log_says_why_once(
    run: Run, san: str, days: int, trusts: bool, reason: str, authority: Authority, caplog: pytest.LogCaptureFixture
) -> None:
    """Case D 17."""
    pod = RecordingPod()

    async def story() -> None:
        async with stream_server(pod.handle, tls=serving(authority.issue(san, days=days))) as port:
            tls = _tls(authority.cert) if trusts else UpstreamTls()
            async with serves(settings(pools=[_pool(f"https://{HOST}:{port}", tls=tls)])) as replica:
                for _ in range(5):
                    answer = await ask(replica.port)
                    assert answer.startswith(b"HTTP/1.1 502 ")
                    error = json.loads(answer.partition(b"\r\n\r\n")[2])["error"]
                    assert error["code"] == "pod_failed"
                    assert reason in error["message"]
        assert pod.asked == []

    with caplog.at_level(logging.WARNING, "turnout"):
        run(story())
    said = [record for record in caplog.records if record.name == "turnout.upstream"]
    assert [reason in record.getMessage() for record in said] == [True]
    assert any(reason in record.getMessage() for record in caplog.records if record.name == "turnout.prober")


def test_a_pod_that_refuses_the_gateway_gets_no_request(run: Run, authority: Authority) -> None:
    pod = RecordingPod()

    async def story() -> None:
        async with stream_server(pod.handle, tls=serving(authority.issue(), clients=authority)) as port:
            pool = _pool(f"https://{HOST}:{port}", tls=_tls(authority.cert))
            async with serves(settings(pools=[pool])) as replica:
                answer = await ask(replica.port)
        assert answer.startswith(b"HTTP/1.1 502 ")
        assert b"upstream.tls.cert_file" in answer
        assert pod.asked == []

    run(story())


def test_of_two_pods_the_one_with_a_good_certificate_gets_all_requests(run: Run, authority: Authority) -> None:
    good, bad = RecordingPod(), RecordingPod()

    async def story() -> None:
        expired = serving(authority.issue(days=-1))
        async with (
            stream_server(good.handle, tls=serving(authority.issue())) as well,
            stream_server(bad.handle, tls=expired) as ill,
        ):
            pool = _pool(f"https://{HOST}:{well}", f"https://{HOST}:{ill}", tls=_tls(authority.cert))
            async with serves(settings(pools=[pool])) as replica:
                for _ in range(8):
                    assert (await ask(replica.port)).startswith(b"HTTP/1.1 200 ")
        assert (len(good.posts), bad.asked) == (8, [])

    run(story())


def test_connections_over_tls_are_kept_and_carry_large_bodies(run: Run, authority: Authority) -> None:
    pod, connections = RecordingPod(), 0

    async def counted(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        await pod.handle(reader, writer)

    async def story() -> None:
        async with stream_server(counted, tls=serving(authority.issue())) as port:
            # No probe and no reading beside the requests while connections are counted.
            health, pool = Health(interval_s=1e6), _pool(f"https://{HOST}:{port}", tls=_tls(authority.cert))
            timeouts = Timeouts(upstream_keepalive_s=600.0)
            async with serves(settings(pools=[pool], health=health, timeouts=timeouts)) as replica:
                await until(lambda: len(pod.asked) >= 2)
                for _ in range(5):
                    body = json.dumps({"model": "m", "messages": [], "x": "y" * 3_000_000}).encode()
                    head = b"POST /v1/chat/completions HTTP/1.1\r\nhost: g\r\ncontent-length: %d\r\n\r\n" % len(body)
                    assert (await ask(replica.port, head + body)).startswith(b"HTTP/1.1 200 ")
                idle = replica.parts.network.upstream.idle
                assert [len(stack) for stack in idle.values()] == [1]

    run(story())


def test_pods_behind_sockets_and_below_base_paths_are_served(run: Run, tmp_path: Path) -> None:
    """Case D 17."""
    behind, below = RecordingPod("socket"), RecordingPod("below", base="/team/a")

    async def story() -> None:
        path = tmp_path / "pod.sock"
        async with stream_server(behind.handle, socket=path), stream_server(below.handle) as port:
            pools = [
                _pool(f"unix:{path}", name="one", models=()),
                _pool(f"http://{HOST}:{port}/team/a", name="two", models=()),
            ]
            async with serves(settings(pools=pools)) as replica:
                assert not replica.parts.core.lifecycle.cold
                for model in ("socket", "below"):
                    assert (await ask(replica.port, _posting(model))).startswith(b"HTTP/1.1 200 ")
        (first,), (second,) = behind.posts, below.posts
        assert (first.target, first.headers["host"]) == ("/v1/chat/completions", "localhost")
        assert (second.target, second.headers["host"]) == ("/team/a/v1/chat/completions", f"{HOST}:{port}")

    run(story())


def test_websockets_reach_pods_over_tls_and_sockets(run: Run, authority: Authority, tmp_path: Path) -> None:
    """Cases C 10 and D 17."""
    pod, path = RecordingPod(base="/base"), tmp_path / "pod.sock"
    offer = (
        b"GET /v1/realtime?model=m HTTP/1.1\r\nhost: g\r\nconnection: Upgrade\r\nupgrade: websocket\r\n"
        b"sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )

    async def talk(address: str) -> None:
        async with serves(settings(pools=[_pool(address, tls=_tls(authority.cert), path="/base")])) as replica:
            reader, writer = await asyncio.open_connection(HOST, replica.port)
            writer.write(offer)
            assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 101 ")
            writer.write(b"\x81\x02hi")
            assert await reader.readexactly(4) == b"\x81\x02hi"
            writer.close()
            await until(lambda: not replica.parts.network.admission.active)

    async def story() -> None:
        tls = serving(authority.issue())
        async with stream_server(pod.handle, tls=tls) as port, stream_server(pod.handle, socket=path):
            await talk(f"https://{HOST}:{port}")
            await talk(f"unix:{path}")
        offered = [each.target for each in pod.asked if each.headers.get("upgrade")]
        assert offered == ["/base/v1/realtime?model=m"] * 2

    run(story())


def test_pods_with_a_key_list_their_models_and_get_it_by_choice(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Case A 3: each model goes to its own pool, and the replica is not cold."""
    monkeypatch.setenv("TEST_POD_KEY", "sk-two")
    one, two = RecordingPod("model-a", key="sk-one"), RecordingPod("model-b", key="sk-two")
    key = tmp_path / "key"
    key.write_text("sk-one\n")

    async def story() -> None:
        async with stream_server(one.handle) as first, stream_server(two.handle) as second:
            pools = [
                _pool(f"http://{HOST}:{first}", name="a", models=(), api_key_file=str(key), send_key=True),
                _pool(f"http://{HOST}:{second}", name="b", models=(), api_key_env="TEST_POD_KEY"),
            ]
            async with serves(settings(pools=pools)) as replica:
                assert not replica.parts.core.lifecycle.cold
                client = "authorization: Bearer client"
                assert (await ask(replica.port, _posting("model-a", client))).startswith(b"HTTP/1.1 200 ")
                assert (await ask(replica.port, _posting("model-b", client))).startswith(b"HTTP/1.1 401 ")
                assert (await ask(replica.port, _posting("model-b", "authorization: Bearer sk-two"))).startswith(
                    b"HTTP/1.1 200 "
                )
                one.key = "sk-new"
                key.write_text("sk-new")
                assert (await ask(replica.port, _posting("model-a"))).startswith(b"HTTP/1.1 200 ")
        assert [each.headers["authorization"] for each in one.posts] == ["Bearer sk-one", "Bearer sk-new"]
        assert [each.headers["authorization"] for each in two.posts] == ["Bearer client", "Bearer sk-two"]

    run(story())


def test_pods_without_health_and_metrics_pages_share_the_requests(run: Run) -> None:
    """Cases D 16 and D 18: Ollama, LM Studio."""
    pods = [RecordingPod("m"), RecordingPod("m")]
    for pod in pods:
        pod.pages.clear()

    async def story() -> None:
        async with stream_server(pods[0].handle) as one, stream_server(pods[1].handle) as two:
            pool = _pool(f"http://{HOST}:{one}", f"http://{HOST}:{two}", models=())
            async with serves(settings(pools=[pool])) as replica:
                answers = await asyncio.gather(*(ask(replica.port) for _ in range(20)))
                assert {answer[:13] for answer in answers} == {b"HTTP/1.1 200 "}
                assert [status.routable for status in replica.parts.state.view.statuses()] == [True, True]
        assert all(pod.posts for pod in pods)

    run(story())


def test_what_manages_an_engine_reaches_no_pod(run: Run) -> None:
    """Case D 19."""
    pod = RecordingPod("m")

    async def story() -> None:
        async with stream_server(pod.handle) as port, serves(settings(f"http://{HOST}:{port}")) as replica:
            for path in (b"/v1/load_lora_adapter", b"/sleep", b"/v1/%73leep", b"/reset_prefix_cache", b"/api/pull"):
                answer = await ask(replica.port, ASK.replace(b"/v1/chat/completions", path))
                assert answer[9:12] in (b"403", b"404"), path
        assert pod.posts == []

    run(story())
