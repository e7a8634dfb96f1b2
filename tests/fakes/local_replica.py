"""Replicas on real sockets in front of a small real engine, for tests of a whole replica."""

from __future__ import annotations

import asyncio

from loadtests.sim.ports import HOST, free_ports
from router.policy_settings import PolicyGuard
from router.settings import Control, Drain, PolicySpec, Pool, Settings, Timeouts
from statesync.settings import Health, Sync
from tests.fakes.waiting import DEADLINE_S

BODY = b'{"model":"m","messages":[]}'
ASK = b"POST /v1/chat/completions HTTP/1.1\r\nhost: g\r\ncontent-length: %d\r\n\r\n%b" % (len(BODY), BODY)
ANSWER = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}"

STREAMED = b'{"model":"m","stream":true,"messages":[]}'
ASK_STREAM = b"POST /v1/chat/completions HTTP/1.1\r\nhost: g\r\ncontent-length: %d\r\n\r\n%b" % (
    len(STREAMED),
    STREAMED,
)

STREAM = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
    b'f\r\ndata: {"n":1}\n\n\r\n'
)
"""The beginning of a stream that never ends."""


class Engine(asyncio.Protocol):
    """An engine on one port: healthy, without metrics, and answering every request unless `held` delays it.

    A request with `"stream":true` gets one event only.
    """

    held: asyncio.Event | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        if b'"stream":true' in data:
            self.transport.write(STREAM)
        elif data.startswith(b"POST") and Engine.held is not None:
            asyncio.get_running_loop().create_task(self._later(Engine.held))
        else:
            self.transport.write(ANSWER)

    async def _later(self, held: asyncio.Event) -> None:
        await held.wait()
        self.transport.write(ANSWER)


async def engine() -> tuple[asyncio.Server, str]:
    server = await asyncio.get_running_loop().create_server(Engine, HOST, 0)
    return server, f"http://{HOST}:{server.sockets[0].getsockname()[1]}"


def settings(*pods: str, **fields: object) -> Settings:
    """A replica's settings; `fields` replace whole sections. A busy machine makes none of its limits pass."""
    pool = Pool(name="main", pods=list(pods), models=["m"], policy=PolicySpec(name="p2c"))
    sections: dict[str, object] = {
        # No other process listens on this port after the replica has stopped.
        "listen": f"{HOST}:{free_ports(1)[0]}",
        "control": Control(listen=f"{HOST}:0"),
        "pools": [pool],
        "drain": Drain(settle_s=0.0, timeout_s=600.0),
        "health": Health(timeout_s=DEADLINE_S),
        "timeouts": Timeouts(connect_s=DEADLINE_S, client_header_s=DEADLINE_S),
        "sync": Sync(timeout_s=30.0, lease_s=60.0),
        "policy_guard": PolicyGuard(slow_s=5.0, stuck_s=10.0),
        "replica": "r1",
    }
    return Settings(**(sections | fields))  # type: ignore[arg-type]


async def ask(port: int, request: bytes = ASK) -> bytes:
    """The whole answer on a connection that the replica then closes."""
    reader, writer = await asyncio.open_connection(HOST, port)
    writer.write(request.replace(b"host: g", b"host: g\r\nconnection: close"))
    answer = await reader.read()
    writer.close()
    await writer.wait_closed()
    return answer
