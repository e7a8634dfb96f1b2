"""uvicorn inside an event loop that is not its own."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import ssl

import httpx
import pytest
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from router.address import ListenAddress, bind
from router.client_settings import ServerTls
from router.control.server import ControlServer
from router.ports.tls import PortTls
from tests.fakes.certificates import Authority

HELLO: ASGIApp = PlainTextResponse("hello")
LOOPBACK = ListenAddress(f"127.1.{os.getpid() >> 8 & 255}.{os.getpid() & 255}", 0)
"""A free address: no other process takes the port after this process has closed it."""


def test_it_answers_from_start_to_stop_and_not_after() -> None:
    async def run() -> None:
        server = ControlServer(HELLO, LOOPBACK)
        await server.start()
        assert server.address.port != 0
        async with httpx.AsyncClient(trust_env=False, verify=False) as client:
            assert (await client.get(f"http://{server.address}/")).text == "hello"
            await server.stop()
            await server.stop()
            with pytest.raises(httpx.ConnectError):
                await client.get(f"http://{server.address}/")

    asyncio.run(run())


def test_a_port_in_use_is_an_error_and_does_not_end_the_process() -> None:
    async def run() -> None:
        first = ControlServer(HELLO, LOOPBACK)
        await first.start()
        try:
            with pytest.raises(OSError, match="in use"):
                await ControlServer(HELLO, first.address).start()
        finally:
            await first.stop()

    asyncio.run(run())


def test_on_an_inherited_socket_it_answers_open_connections_after_it_stopped_accepting() -> None:
    async def run() -> None:
        lent = bind(LOOPBACK)
        server = ControlServer(HELLO, LOOPBACK, lent.dup())
        server.stop_accepting()
        await server.start()
        assert server.address.port == lent.getsockname()[1]
        async with httpx.AsyncClient(trust_env=False, verify=False) as client:
            assert (await client.get(f"http://{server.address}/")).text == "hello"
            server.stop_accepting()
            assert (await client.get(f"http://{server.address}/")).text == "hello"
            with socket.create_connection(server.address):
                accepted, _ = await asyncio.wait_for(asyncio.get_running_loop().sock_accept(lent), 60)
                accepted.close()
            await server.stop()
        lent.close()

    asyncio.run(run())


@pytest.mark.parametrize("turns", range(10))
def test_a_connection_that_comes_as_it_stops_is_closed(turns: int) -> None:
    async def run() -> None:
        server = ControlServer(HELLO, LOOPBACK)
        await server.start()
        stopping = asyncio.create_task(server.stop())  # noqa: TID251  awaited here
        for _ in range(turns):
            await asyncio.sleep(0)
        with contextlib.suppress(ConnectionError), socket.create_connection(server.address) as client:
            await stopping
            client.settimeout(0.0)
            assert client.recv(1) == b"", "closed, and not left to the loop's end"
        await stopping

    asyncio.run(run())


def test_stopping_a_server_that_never_started_does_nothing() -> None:
    asyncio.run(ControlServer(HELLO, LOOPBACK).stop())


def test_signal_handlers_of_the_process_are_kept() -> None:
    async def run() -> None:
        before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
        server = ControlServer(HELLO, LOOPBACK)
        await server.start()
        during = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
        await server.stop()
        assert during == before

    asyncio.run(run())


def test_an_answer_in_progress_is_finished_when_it_stops() -> None:
    begun = asyncio.Event()
    finish = asyncio.Event()

    async def slow(scope: Scope, receive: Receive, send: Send) -> None:
        begun.set()
        await finish.wait()
        await PlainTextResponse("done")(scope, receive, send)

    async def run() -> str:
        server = ControlServer(slow, LOOPBACK)
        await server.start()
        async with httpx.AsyncClient(trust_env=False, verify=False) as client:
            asking = asyncio.get_running_loop().create_task(client.get(f"http://{server.address}/"))
            await begun.wait()
            stopping = asyncio.get_running_loop().create_task(server.stop())
            await asyncio.sleep(0)
            finish.set()
            answer = (await asking).text
            await stopping
            return answer

    assert asyncio.run(run()) == "done"


@pytest.mark.skipif(not socket.has_ipv6, reason="no IPv6 here")
def test_it_listens_on_ipv6_loopback() -> None:
    async def run() -> None:
        server = ControlServer(HELLO, ListenAddress("::1", 0))
        try:
            await server.start()
        except OSError:
            pytest.skip("no IPv6 loopback here")
        async with httpx.AsyncClient(trust_env=False, verify=False) as client:
            assert (await client.get(f"http://{server.address}/")).text == "hello"
        await server.stop()

    asyncio.run(run())


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> PortTls:
    pair = Authority(tmp_path_factory.mktemp("authority")).issue()
    return PortTls("control", ServerTls(cert_file=str(pair.cert), key_file=str(pair.key)))


@pytest.mark.needs("openssl")
def test_an_address_with_silent_connections_leaves_others_for_probes(tls: PortTls) -> None:
    async def run() -> None:
        server = ControlServer(HELLO, LOOPBACK, tls=tls)
        await server.start()
        where = (server.address.host, server.address.port)
        pairs = [await asyncio.open_connection(*where) for _ in range(60)]
        for _, writer in pairs[:10]:
            writer.write(b"\x16")  # the first byte of a handshake that does not go on
        closed = asyncio.gather(*(reader.read() for reader, _ in pairs[25:]), return_exceptions=True)
        assert len(await asyncio.wait_for(closed, 60)) == 35
        other = httpx.AsyncHTTPTransport(verify=False, local_address="127.0.0.2")
        async with httpx.AsyncClient(transport=other, trust_env=False) as client:
            assert (await client.get(f"https://{server.address}/")).text == "hello"
        await server.stop()
        for _, writer in pairs:
            writer.close()

    asyncio.run(run())


@pytest.mark.needs("openssl")
def test_when_other_clients_may_be_let_in_open_connections_end_after_one_more_request(tls: PortTls) -> None:
    async def run() -> None:
        server = ControlServer(HELLO, LOOPBACK, tls=tls)
        await server.start()
        unchecked = ssl.create_default_context()
        unchecked.check_hostname, unchecked.verify_mode = False, ssl.CERT_NONE
        reader, writer = await asyncio.open_connection(server.address.host, server.address.port, ssl=unchecked)
        for last in (False, True):
            if last:
                assert tls.on_clients_changed is not None
                tls.on_clients_changed()
            writer.write(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
            assert (await reader.readuntil(b"hello")).startswith(b"HTTP/1.1 200 ")
        assert await reader.read() == b""
        writer.close()
        await server.stop()

    asyncio.run(run())
