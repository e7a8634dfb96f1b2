"""What comes before HTTP on a port with TLS or the PROXY protocol, over real sockets."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any
from unittest.mock import patch

import pytest
import uvloop

from loadtests.sim.ports import HOST
from router.address import ListenAddress, bind
from router.client_settings import ServerTls
from router.ports.acceptor import Acceptor, PortOptions
from router.ports.tls import PortTls
from tests.fakes.certificates import Authority
from tests.fakes.virtual_time import Clock, pass_time, real_moment, run_on
from tests.fakes.waiting import until

PLAIN_ANSWER = b"HTTP/1.1 400 Bad Request\r\n\r\n"
MUCH = 3_000_000
PROXY = b"PROXY TCP4 203.0.113.9 10.0.0.1 12345 443\r\n"


class Echo(asyncio.Protocol):
    """A protocol that names its client, then echoes."""

    def __init__(self, peer: str) -> None:
        self.peer = peer
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        transport.write(self.peer.encode() + b"\n")

    def data_received(self, data: bytes) -> None:
        assert self.transport is not None
        self.transport.write(data)


class Owner:
    """Takes every connection, unless it is full."""

    def __init__(self) -> None:
        self.full = False
        self.most_silent = 100
        self.peers: list[str] = []
        self.over = 0

    def room(self) -> bool:
        return not self.full

    def counted_for(self, peer: str) -> str:
        return peer

    def crowded(self, client: str, silent: int) -> bool:
        return silent >= self.most_silent

    def protocol(self, peer: str) -> asyncio.BaseProtocol | None:
        self.peers.append(peer)
        return None if peer == "203.0.113.66" else Echo(peer)

    def given_up(self, protocol: asyncio.BaseProtocol) -> None:
        self.over += 1

    def not_tls(self, peer: str) -> bytes:
        return PLAIN_ANSWER


@asynccontextmanager
async def accepting(options: PortOptions, timeout_s: float = 60.0) -> AsyncIterator[tuple[Acceptor, Owner, int]]:
    owner = Owner()
    acceptor = Acceptor(options, owner, timeout_s, 60.0)
    bound = bind(ListenAddress(HOST, 0))
    acceptor.start(bound, 16)
    try:
        yield acceptor, owner, bound.getsockname()[1]
    finally:
        acceptor.close()
        acceptor.abort()


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def tls(authority: Authority) -> PortTls:
    pair = authority.issue()
    return PortTls("inference", ServerTls(cert_file=str(pair.cert), key_file=str(pair.key)))


def trusting(authority: Authority) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(authority.cert))


async def until_closed(reader: asyncio.StreamReader) -> None:
    """Nothing comes but the end: a reset, where the other side had not read all."""
    with contextlib.suppress(ConnectionResetError):
        assert await reader.read() == b""


def played(scene: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(asyncio.wait_for(scene(), 60))


@pytest.mark.needs("openssl")
def test_a_client_that_speaks_tls_is_let_in(authority: Authority, tls: PortTls) -> None:
    async def scene() -> None:
        async with accepting(PortOptions(tls)) as (acceptor, owner, port):
            reader, writer = await asyncio.open_connection(HOST, port, ssl=trusting(authority))
            assert await reader.readline() == b"127.0.0.1\n"
            writer.write(b"hello\n")
            assert await reader.readline() == b"hello\n"
            assert (len(acceptor.arrivals), owner.over) == (0, 1)
            writer.close()
            await writer.wait_closed()

    played(scene)


@pytest.mark.needs("openssl")
def test_a_client_that_speaks_http_gets_an_answer_that_it_can_read(tls: PortTls) -> None:
    async def scene() -> None:
        async with accepting(PortOptions(tls)) as (acceptor, owner, port):
            reader, writer = await asyncio.open_connection(HOST, port)
            writer.write(b"POST /v1/models HTTP/1.1\r\n\r\n" + bytes(100_000))
            assert await reader.read() == PLAIN_ANSWER
            writer.close()
            await until(lambda: not acceptor.arrivals)
            assert owner.peers == []

    played(scene)


@pytest.mark.needs("openssl")
def test_a_process_that_stood_still_reads_what_came_before_it_closes(tls: PortTls) -> None:
    async def scene() -> None:
        async with accepting(PortOptions(tls)) as (acceptor, _, port):
            reader, writer = await asyncio.open_connection(HOST, port)
            while not acceptor.arrivals:
                await real_moment()
            pass_time(61.0)
            for _ in range(3):
                await asyncio.sleep(0)
            writer.write(b"GET / HTTP/1.1\r\n\r\n")
            assert await reader.readuntil(PLAIN_ANSWER) == PLAIN_ANSWER
            writer.close()

    run_on(Clock(), scene())


@pytest.mark.needs("openssl")
@pytest.mark.parametrize("sent", [b"", b"\x16\x03\x01"])
def test_a_client_that_sends_no_handshake_is_closed_in_time(tls: PortTls, sent: bytes) -> None:
    async def scene() -> None:
        before = tls.refused.get("timeout", 0)
        async with accepting(PortOptions(tls), timeout_s=0.05) as (acceptor, owner, port):
            reader, writer = await asyncio.open_connection(HOST, port)
            writer.write(sent)
            await until_closed(reader)
            writer.close()
            await until(lambda: not acceptor.arrivals)
            begun = len(owner.peers)  # none, where the time was over before the first byte was read
            assert begun <= bool(sent)
            assert (owner.over, tls.refused.get("timeout", 0) - before) == (begun, begun)

    played(scene)


@pytest.mark.parametrize("split", [0, 1, 6, 20, len(PROXY) - 1])
def test_a_proxys_header_names_the_client(split: int) -> None:
    async def scene() -> None:
        async with accepting(PortOptions(None, lambda peer: peer == HOST)) as (_, owner, port):
            reader, writer = await asyncio.open_connection(HOST, port)
            if split:
                writer.write(PROXY[:split])
                await asyncio.sleep(0.01)  # so that it arrives alone; the test passes where it does not
            writer.write(PROXY[split:] + b"hello\n")
            assert await reader.readline() == b"203.0.113.9\n"
            assert await reader.readline() == b"hello\n"
            writer.close()
            assert owner.peers == ["203.0.113.9"]

    played(scene)


def test_a_health_check_of_the_proxy_has_the_proxys_address() -> None:
    async def scene() -> None:
        async with accepting(PortOptions(None, lambda peer: True)) as (_, _owner, port):
            reader, writer = await asyncio.open_connection(HOST, port)
            writer.write(b"\r\n\r\n\x00\r\nQUIT\n\x20\x00\x00\x00")
            assert await reader.readline() == b"127.0.0.1\n"
            writer.close()

    played(scene)


def test_another_client_needs_no_header() -> None:
    async def scene() -> None:
        async with accepting(PortOptions(None, lambda peer: False)) as (_, _owner, port):
            reader, writer = await asyncio.open_connection(HOST, port)
            assert await reader.readline() == b"127.0.0.1\n"
            writer.write(PROXY)
            assert await reader.readline() == PROXY  # for HTTP to refuse
            writer.close()

    played(scene)


@pytest.mark.parametrize("sent", [b"GET / HTTP/1.1\r\n\r\n", b"PROXY TCP4 203.0.113.66 10.0.0.1 1 2\r\n"])
def test_a_proxy_without_a_header_and_a_client_that_is_refused_are_closed(sent: bytes) -> None:
    async def scene() -> None:
        async with accepting(PortOptions(None, lambda peer: True)) as (acceptor, owner, port):
            reader, writer = await asyncio.open_connection(HOST, port)
            writer.write(sent)
            await until_closed(reader)
            writer.close()
            assert (len(acceptor.arrivals), owner.over) == (0, 0)

    played(scene)


@pytest.mark.needs("openssl")
def test_tls_follows_the_header_in_the_same_segment(authority: Authority, tls: PortTls) -> None:
    async def scene() -> None:
        async with accepting(PortOptions(tls, lambda peer: True)) as (_, _owner, port):
            there, back = ssl.MemoryBIO(), ssl.MemoryBIO()
            client = trusting(authority).wrap_bio(back, there, server_hostname=HOST)
            with pytest.raises(ssl.SSLWantReadError):
                client.do_handshake()
            reader, writer = await asyncio.open_connection(HOST, port)
            writer.write(PROXY + there.read())
            back.write(await reader.read(65536))
            client.do_handshake()
            writer.write(there.read())
            while not (line := _read(client)):
                back.write(await reader.read(65536))
            assert line == b"203.0.113.9\n"
            writer.close()

    played(scene)


def _read(client: ssl.SSLObject) -> bytes:
    try:
        return client.read()
    except ssl.SSLWantReadError:
        return b""


@pytest.mark.needs("openssl")
@pytest.mark.parametrize("header", [b"", PROXY])
def test_connections_that_have_sent_nothing_count_for_their_client(header: bytes, tls: PortTls) -> None:
    async def scene() -> None:
        proxies = (lambda peer: True) if header else None
        async with accepting(PortOptions(tls, proxies)) as (acceptor, owner, port):
            owner.most_silent = 2
            pairs = []
            for silent in (1, 2):
                pairs.append(await asyncio.open_connection(HOST, port))
                pairs[-1][1].write(header)
                await until(lambda silent=silent: acceptor.silent.total() == silent)  # type: ignore[misc]
            reader, writer = await asyncio.open_connection(HOST, port)
            writer.write(header)
            await until_closed(reader)
            writer.close()
            for _, writer in pairs:
                writer.close()
            await until(lambda: not acceptor.silent and not acceptor.arrivals)

    played(scene)


def test_a_full_port_closes_what_it_accepts_and_a_closed_one_accepts_nothing() -> None:
    async def scene() -> None:
        async with accepting(PortOptions(None, lambda peer: True)) as (acceptor, owner, port):
            owner.full = True
            reader, writer = await asyncio.open_connection(HOST, port)
            assert await reader.read() == b""
            writer.close()
            owner.full = False
            reader, writer = await asyncio.open_connection(HOST, port)
            await until(lambda: len(acceptor.arrivals) == 1)
            acceptor.close()
            with pytest.raises(ConnectionRefusedError):
                socket.create_connection((HOST, port))
            writer.write(PROXY)
            assert await reader.readline() == b"203.0.113.9\n"
            writer.close()

    played(scene)


class Closing(asyncio.Protocol):
    """Sends much, and closes the connection at once."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        sending: Any = transport
        sending.write(b"x" * MUCH)
        sending.close()


@pytest.mark.slow
@pytest.mark.needs("openssl")
def test_what_was_written_before_the_end_reaches_a_slow_client(authority: Authority, tls: PortTls) -> None:
    async def scene() -> None:
        async with accepting(PortOptions(tls)) as (_, owner, port):
            with patch.object(owner, "protocol", lambda peer: Closing()):
                reader, writer = await asyncio.open_connection(HOST, port, ssl=trusting(authority), limit=1000)
                await asyncio.sleep(1.3)
                assert len(await reader.read()) == MUCH
                writer.close()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:  # asyncio's own loop loses nothing
        runner.run(scene())


@pytest.mark.needs("openssl")
def test_arrivals_are_closed_by_an_abort(tls: PortTls) -> None:
    async def scene() -> None:
        async with accepting(PortOptions(tls)) as (acceptor, owner, port):
            pairs = [await asyncio.open_connection(HOST, port) for _ in range(2)]
            pairs[0][1].write(b"\x16")
            await until(lambda: len(acceptor.arrivals) == 2 and len(owner.peers) == 1)
            acceptor.abort()
            for reader, writer in pairs:
                await until_closed(reader)
                writer.close()
            await until(lambda: not acceptor.arrivals and owner.over == 1)

    played(scene)
