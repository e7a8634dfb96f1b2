"""WebSockets through a gateway process, between aiohttp's client and server. Every test is Case C 10."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Iterator
from pathlib import Path

import aiohttp
import pytest

from tests.fakes.certificates import Authority, serving
from tests.fakes.gateway_process import GatewayProcess, config, pool, running, starting
from tests.fakes.waiting import DEADLINE_S, wait_for
from tests.fakes.websocket_pods import BYE, GOING_AWAY, OWN_CODE, WebSocketPod, websocket_pods

pytestmark = pytest.mark.slow

LARGE = bytes(range(256)) * 8192
"""2 MiB, more than all buffers on the way."""


@pytest.fixture(scope="module")
def pods() -> Iterator[list[WebSocketPod]]:
    with websocket_pods(3) as pods:
        yield pods


@pytest.fixture(scope="module")
def gateway(pods: list[WebSocketPod], tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    urls = [pod.base for pod in pods]
    settings = config((), pools=[pool("default", urls, policy={"name": "session_affinity"})])
    with running(settings, tmp_path_factory.mktemp("gateway")) as gateway:
        yield gateway


def url(gateway: GatewayProcess, path: str = "/v1/realtime?model=m") -> str:
    return f"ws://127.0.0.1:{gateway.port}{path}"


async def first(socket: aiohttp.ClientWebSocketResponse) -> str:
    """The pod that has the WebSocket, by its first message."""
    return str(await socket.receive_str(timeout=DEADLINE_S))


@pytest.mark.parametrize("path", ["/v1/realtime?model=m", "/v1/responses", "/v1/realtime"])
def test_messages_pass_both_ways(gateway: GatewayProcess, path: str) -> None:
    async def talk() -> None:
        async with (
            aiohttp.ClientSession() as session,
            session.ws_connect(url(gateway, path), protocols=("realtime",), max_msg_size=0) as socket,
        ):
            assert (await first(socket)).startswith("http://")
            assert socket.protocol == "realtime"
            for number in range(50):
                await socket.send_str(f"number {number}")
                assert await socket.receive_str(timeout=DEADLINE_S) == f"number {number}"
            await asyncio.gather(socket.send_bytes(LARGE), echoed(socket))

    async def echoed(socket: aiohttp.ClientWebSocketResponse) -> None:
        assert await socket.receive_bytes(timeout=DEADLINE_S) == LARGE

    asyncio.run(talk())


def test_close_codes_pass_both_ways(gateway: GatewayProcess, pods: list[WebSocketPod]) -> None:
    async def talk() -> None:
        async with aiohttp.ClientSession() as session:
            socket = await session.ws_connect(url(gateway))
            pod = {each.base: each for each in pods}[await first(socket)]
            await socket.close(code=4002)
            await asyncio.to_thread(wait_for, "the pod has the code", lambda: 4002 in pod.codes)
            socket = await session.ws_connect(url(gateway))
            await first(socket)
            await socket.send_str(BYE)
            message = await socket.receive(timeout=DEADLINE_S)
            assert (message.type, message.data, message.extra) == (aiohttp.WSMsgType.CLOSE, OWN_CODE, "own reason")

    asyncio.run(talk())


def test_it_is_in_flight_while_it_is_open(gateway: GatewayProcess) -> None:
    async def talk() -> None:
        async with aiohttp.ClientSession() as session, session.ws_connect(url(gateway)) as socket:
            base = (await first(socket)).removeprefix("http://")
            assert await asyncio.to_thread(lambda: gateway.pod(base)["inflight"]) == 1

    asyncio.run(talk())
    wait_for("nothing in flight", lambda: gateway.inflight() == 0)


def test_a_session_reaches_the_same_pod(gateway: GatewayProcess) -> None:
    async def talk() -> set[str]:
        found = set()
        async with aiohttp.ClientSession(headers={"x-session-id": "one"}) as session:
            for _ in range(8):
                async with session.ws_connect(url(gateway)) as socket:
                    found.add(await first(socket))
                # A session moves on from a pod that is much fuller than the others.
                await asyncio.to_thread(wait_for, "nothing in flight", lambda: gateway.inflight() == 0)
        return found

    assert len(asyncio.run(talk())) == 1


def test_an_unknown_model_is_refused_in_the_handshake(gateway: GatewayProcess) -> None:
    async def talk() -> int:
        async with aiohttp.ClientSession() as session:
            with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
                await session.ws_connect(url(gateway, "/v1/realtime?model=none"))
        return refused.value.status

    assert asyncio.run(talk()) == 404


@pytest.mark.needs("openssl")
def test_messages_pass_to_a_pod_behind_tls(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    with websocket_pods(1, serving(authority.issue())) as (pod,):
        upstream = {"tls": {"ca_file": str(authority.cert)}}
        settings = config((), pools=[pool("default", [pod.base], upstream=upstream)])
        with running(settings, tmp_path / "gateway") as gateway:

            async def talk() -> None:
                async with aiohttp.ClientSession() as session, session.ws_connect(url(gateway)) as socket:
                    assert await first(socket) == pod.base
                    await socket.send_str("over TLS")
                    assert await socket.receive_str(timeout=DEADLINE_S) == "over TLS"

            asyncio.run(talk())


@pytest.mark.parametrize("leaves", [False, True])
def test_a_drain_waits_for_websockets_and_then_closes_them(
    pods: list[WebSocketPod], tmp_path: Path, leaves: bool
) -> None:
    """A client that leaves in time ends the drain; one that stays gets the code for going away."""
    timeout_s = DEADLINE_S if leaves else 0.5
    settings = config([pods[0].base], drain={"settle_s": 0.0, "timeout_s": timeout_s})
    with starting(settings, tmp_path) as gateway:
        gateway.wait_until_ready()

        async def talk() -> aiohttp.WSMessage | None:
            async with aiohttp.ClientSession() as session:
                socket = await session.ws_connect(url(gateway))
                await first(socket)
                gateway.signal(signal.SIGTERM)
                if not leaves:
                    return await socket.receive(timeout=DEADLINE_S)
                await socket.send_str("still served")
                assert await socket.receive_str(timeout=DEADLINE_S) == "still served"
                await socket.close()
                return None

        message = asyncio.run(talk())
        assert message is None or (message.type, message.data) == (aiohttp.WSMsgType.CLOSE, GOING_AWAY)
        assert gateway.ended() == 0
        assert gateway.complaints() == []
