"""The control port's own limits, on a real port: what is too much is refused, and others are answered."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Coroutine

import pytest
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.types import Receive, Scope, Send

from router.address import ListenAddress
from router.control import limits
from router.control.limits import MAX_BODY_BYTES, MAX_CONNECTIONS, MAX_HEAD_BYTES
from router.control.server import ControlServer

LOOPBACK = ListenAddress(f"127.2.{os.getpid() >> 8 & 255}.{os.getpid() & 255}", 0)
GET = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n"

Client = tuple[asyncio.StreamReader, asyncio.StreamWriter]
Connect = Callable[[], Coroutine[None, None, Client]]


async def size_of_body(scope: Scope, receive: Receive, send: Send) -> None:
    """An application that reads whole bodies."""
    body = await Request(scope, receive).body()
    await PlainTextResponse(str(len(body)))(scope, receive, send)


def play(scene: Callable[[Connect], Coroutine[None, None, None]]) -> None:
    async def run() -> None:
        server = ControlServer(size_of_body, LOOPBACK)
        await server.start()
        writers: list[asyncio.StreamWriter] = []

        async def connect() -> Client:
            reader, writer = await asyncio.open_connection(server.address.host, server.address.port)
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
        clients = [await connect() for _ in range(MAX_CONNECTIONS)]
        for client in clients:
            assert await answer(client, GET) == b"200 0"
        assert await is_closed(await connect())
        assert await answer(clients[0], GET) == b"200 0"
        clients[0][1].close()
        while not await served(await connect()):
            pass

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
