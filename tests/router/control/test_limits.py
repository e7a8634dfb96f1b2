"""The control port's own limits, on a real port: what is too much is refused, and others are answered."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections.abc import Callable, Coroutine

import pytest
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.types import Message, Receive, Scope, Send

from router.address import ListenAddress
from router.control import limits, server
from router.control.limits import (
    MAX_BODY_BYTES,
    MAX_CONNECTIONS,
    MAX_CONNECTIONS_EACH,
    MAX_HEAD_BYTES,
    MAX_PIPELINED,
    BodyLimit,
)
from router.control.server import ControlServer
from tests.fakes.virtual_time import real_moment
from tests.fakes.waiting import until

OWN = f"127.2.{os.getpid() >> 8 & 255}.{os.getpid() & 255}"
OTHERS = f"127.3.{os.getpid() >> 8 & 255}.{os.getpid() & 255}"
"""Addresses of this process: its server, and clients that come from somewhere else."""

LOOPBACK = ListenAddress(OWN, 0)
GET = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n"

Client = tuple[asyncio.StreamReader, asyncio.StreamWriter]
Connect = Callable[..., Coroutine[None, None, Client]]
"""Connects, from another address if that is given."""


async def size_of_body(scope: Scope, receive: Receive, send: Send) -> None:
    """An application that reads whole bodies, except of what it refuses."""
    if scope["path"] == "/refused":
        await PlainTextResponse("no", 401)(scope, receive, send)
        return
    body = await Request(scope, receive).body()
    await PlainTextResponse(str(len(body)))(scope, receive, send)


def play(scene: Callable[[Connect], Coroutine[None, None, None]]) -> None:
    async def run() -> None:
        server = ControlServer(size_of_body, LOOPBACK)
        await server.start()
        writers: list[asyncio.StreamWriter] = []

        async def connect(address: str = OWN) -> Client:
            at = server.address
            reader, writer = await asyncio.open_connection(at.host, at.port, local_addr=(address, 0))
            writers.append(writer)
            return reader, writer

        try:
            await scene(connect)
        finally:
            for writer in writers:
                writer.close()
            await server.stop()

    asyncio.run(run())


async def answer(client: Client, request: bytes) -> bytes:
    reader, writer = client
    writer.write(request)
    head = await reader.readuntil(b"\r\n\r\n")
    length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
    return head.split(b" ")[1] + b" " + await reader.readexactly(length)


async def is_closed(client: Client) -> bool:
    """Whether the server closes it; waits for as long as it does not."""
    try:
        return await client[0].read() == b""
    except ConnectionError:
        return True


def test_one_connection_too_many_is_closed_and_the_others_are_answered() -> None:
    """Case E 22."""

    async def scene(connect: Connect) -> None:
        clients = [await connect(address) for address in (OWN, OTHERS) for _ in range(MAX_CONNECTIONS // 2)]
        for client in clients:
            assert await answer(client, GET) == b"200 0"
        third = OTHERS.replace("127.3", "127.4")
        assert await is_closed(await connect(third))
        assert await answer(clients[0], GET) == b"200 0"
        clients[0][1].close()
        while not await served(await connect(third)):
            pass

    play(scene)


def test_one_address_cannot_have_all_connections() -> None:
    async def scene(connect: Connect) -> None:
        clients = [await connect() for _ in range(MAX_CONNECTIONS_EACH)]
        for client in clients:
            assert await answer(client, GET) == b"200 0"
        assert await is_closed(await connect())
        assert await answer(await connect(OTHERS), GET) == b"200 0"

    play(scene)


def test_requests_that_wait_for_an_earlier_answer_are_few() -> None:
    async def scene(connect: Connect) -> None:
        reader, writer = await connect()
        writer.write(GET * (MAX_PIPELINED // 2))
        for _ in range(MAX_PIPELINED // 2):
            assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 ")
            assert await reader.readexactly(1) == b"0"
        many = await connect()
        many[1].write(GET * 1000)
        assert await is_closed(many)

    play(scene)


def test_an_address_beyond_its_rate_waits_for_its_turn_and_another_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "REQUESTS_PER_S", 0.001)
    monkeypatch.setattr(server, "REQUESTS_BURST", 20)
    monkeypatch.setattr(limits, "MOST_WAIT_S", 1e6)

    async def scene(connect: Connect) -> None:
        busy = await connect()
        for _ in range(20):
            assert await answer(busy, GET) == b"200 0"
        busy[1].write(GET)
        waiting = asyncio.get_running_loop().create_task(busy[0].read(1))
        assert await answer(await connect(OTHERS), GET) == b"200 0"
        assert not waiting.done()
        waiting.cancel()
        busy[1].transport.abort()

    play(scene)


def test_a_turn_comes_after_a_moment_and_meanwhile_the_address_gets_no_connection(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(server, "REQUESTS_PER_S", 0.001)
    monkeypatch.setattr(server, "REQUESTS_BURST", 20)

    async def scene(connect: Connect) -> None:
        busy = await connect()
        for _ in range(21):
            assert await answer(busy, GET) == b"200 0"
        assert await is_closed(await connect())
        assert await answer(await connect(OTHERS), GET) == b"200 0"

    play(scene)


def test_a_flood_of_bad_requests_is_no_flood_of_log_lines(caplog: pytest.LogCaptureFixture) -> None:
    async def scene(connect: Connect) -> None:
        for _ in range(50):
            client = await connect()
            client[1].write(b"nonsense\r\n\r\n")
            assert (await client[0].read()).startswith(b"HTTP/1.1 400 ")

    with caplog.at_level(logging.WARNING):
        play(scene)
    assert len(caplog.records) <= 5


@pytest.mark.parametrize("target", [b"http://x/", b"*", b"x:80", b"http://evil.example/admin/drain"])
def test_a_target_is_a_path_of_this_port(target: bytes) -> None:
    async def scene(connect: Connect) -> None:
        method = b"CONNECT" if target == b"x:80" else b"OPTIONS"
        assert (await answer(await connect(), method + b" " + target + b" HTTP/1.1\r\nhost: x\r\n\r\n")).startswith(
            b"400"
        )

    play(scene)


async def served(client: Client) -> bool:
    try:
        return await answer(client, GET) == b"200 0"
    except (asyncio.IncompleteReadError, ConnectionError):
        return False


@pytest.mark.parametrize(
    "sent", [b"", b"GET / HTTP/1.1\r\nx-slow: ", b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\n\r\nab"]
)
def test_a_request_that_does_not_come_ends_its_connection(sent: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """Case E 22."""
    monkeypatch.setattr(limits, "REQUEST_S", 0.05)

    async def scene(connect: Connect) -> None:
        slow = await connect()
        slow[1].write(sent)
        assert await is_closed(slow)

    play(scene)


def test_an_answer_that_is_not_taken_ends_its_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "REQUEST_S", 0.05)

    async def large(scope: Scope, receive: Receive, send: Send) -> None:
        await PlainTextResponse(b"x" * 33_554_432)(scope, receive, send)

    async def run() -> None:
        control = ControlServer(large, LOOPBACK)
        await control.start()
        connections = control._server.server_state.connections
        with socket.create_connection((control.address.host, control.address.port)) as lazy:
            lazy.sendall(GET)
            await until(lambda: len(connections) == 1)
            await until(lambda: not connections)
        await control.stop()

    asyncio.run(run())


def test_a_head_without_end_ends_its_connection() -> None:
    """Case E 22."""

    async def scene(connect: Connect) -> None:
        client = await connect()
        client[1].write(b"GET / HTTP/1.1\r\nx-long: " + b"x" * (MAX_HEAD_BYTES * 4))
        assert await is_closed(client)

    play(scene)


def test_a_body_is_read_up_to_the_limit() -> None:
    """Case E 22."""

    async def scene(connect: Connect) -> None:
        whole = b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n"
        most = b"x" * MAX_BODY_BYTES
        assert await answer(await connect(), whole % len(most) + most) == b"200 %d" % len(most)
        assert (await answer(await connect(), whole % (len(most) + 1))).startswith(b"413 ")
        assert (await answer(await connect(), whole % 10**30)).startswith(b"4")
        chunked = b"POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n"
        assert (await answer(await connect(), chunked + b"100001\r\n" + most + b"x\r\n0\r\n\r\n")).startswith(b"413 ")

    play(scene)


@pytest.mark.parametrize(
    ("framing", "refused"),
    [
        (b"content-length: %d" % (2 * MAX_BODY_BYTES), b"413"),
        (b"content-length: 10\r\nconnection: close", b"401"),
        (b"content-length: 10", b"401"),
    ],
)
def test_a_client_that_still_sends_its_body_reads_why_it_is_refused(framing: bytes, refused: bytes) -> None:
    async def scene(connect: Connect) -> None:
        client = await connect()
        head = b"POST /refused HTTP/1.1\r\nhost: x\r\n" + framing + b"\r\n\r\n"
        assert (await answer(client, head)).startswith(refused)
        half = int(framing.split()[1]) // 2
        for _ in range(2):
            client[1].write(b"x" * half)
            await client[1].drain()
            await real_moment()
        if refused == b"413" or b"close" in framing:
            assert await client[0].read() == b"", "closed, and not reset"
        else:
            assert await answer(client, GET) == b"200 0"

    play(scene)


@pytest.mark.parametrize(("path", "length", "refused"), [("/", 2 * MAX_BODY_BYTES, 413), ("/refused", 10, 401)])
def test_a_client_that_waits_to_be_asked_for_its_body_is_not_waited_for(path: str, length: int, refused: int) -> None:
    headers = [(b"expect", b"100-continue"), (b"content-length", b"%d" % length)]
    sent = list[Message]()

    async def receive() -> Message:
        raise AssertionError("the client was asked")

    async def send(message: Message) -> None:
        sent.append(message)

    async def run() -> None:
        await BodyLimit(size_of_body)({"type": "http", "path": path, "headers": headers}, receive, send)

    asyncio.run(run())
    assert (sent[0]["status"], sent[-1].get("more_body", False)) == (refused, False)


def test_a_body_without_end_is_not_read_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MAX_READ_BYTES", 2 * MAX_BODY_BYTES)

    async def scene(connect: Connect) -> None:
        client = await connect()
        assert (await answer(client, b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 999999999\r\n\r\n")).startswith(
            b"413"
        )
        client[1].write(b"x" * 8 * MAX_BODY_BYTES)
        assert await is_closed(client)

    play(scene)
