"""The client, with a server that answers as the test configures."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from loadtests.sim.http_client import Answer, Client
from loadtests.sim.ports import HOST, free_ports

OK = b"HTTP/1.1 200 OK\r\nX-Name: Value\r\ncontent-length: 2\r\n\r\nok"
Behaviour = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
HANG_S = 30.0


@asynccontextmanager
async def server(behaviour: Behaviour) -> AsyncIterator[int]:
    """Run a server for the block; gives its port."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await behaviour(reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    listening = await asyncio.start_server(serve, HOST, 0)
    try:
        yield listening.sockets[0].getsockname()[1]
    finally:
        listening.close()


def ask(behaviour: Behaviour, requests: int = 1, *, resend: bool = False, timeout_s: float = HANG_S) -> list[Answer]:
    async def scenario() -> list[Answer]:
        async with server(behaviour) as port:
            client = Client(HOST, port, resend=resend)
            answers = [await client.get("/", timeout_s) for _ in range(requests)]
            client.close()
            return answers

    return asyncio.run(scenario())


async def answering(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while True:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(OK)


def saying(*pieces: bytes) -> Behaviour:
    """Send each piece separately, then end the connection."""

    async def behaviour(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        for piece in pieces:
            writer.write(piece)
            await asyncio.sleep(0.01)

    return behaviour


def test_an_answer_has_status_headers_body_and_times() -> None:
    (answer,) = ask(answering)
    assert (answer.status, answer.body, answer.complete, answer.failure) == (200, b"ok", True, "")
    assert answer.headers["x-name"] == "Value"
    assert 0 < answer.sent_at < answer.first_at <= answer.ended_at


def test_each_piece_has_its_own_time() -> None:
    chunked = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
    (answer,) = ask(saying(chunked, b"1\r\na\r\n", b"1\r\nb\r\n", b"0\r\n\r\n"))
    assert (answer.pieces, answer.complete) == ([b"a", b"b"], True)
    assert answer.times[0] < answer.times[1]


def test_a_connection_is_kept_for_the_next_request() -> None:
    connections = 0

    async def counted(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        await answering(reader, writer)

    assert {answer.body for answer in ask(counted, 3)} == {b"ok"}
    assert connections == 1


def test_a_post_has_its_content_length_and_the_headers() -> None:
    received = b""

    async def reading(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal received
        received = await reader.readuntil(b"{}")
        writer.write(OK)

    async def scenario() -> None:
        async with server(reading) as port:
            client = Client(HOST, port)
            await client.post("/path", b"{}", HANG_S, {"x-session-id": "s"})
            client.close()

    asyncio.run(scenario())
    head, _, body = received.partition(b"\r\n\r\n")
    assert head.startswith(b"POST /path HTTP/1.1\r\n")
    assert {b"x-session-id: s", b"content-length: 2", b"content-type: application/json"} <= {*head.split(b"\r\n")}
    assert body == b"{}"


@pytest.mark.parametrize(
    ("pieces", "status", "failure"),
    [
        ((), 0, "connection_lost"),
        ((b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nshort",), 200, "connection_lost"),
        ((b"not http at all\r\n\r\n",), 0, "bad_http"),
    ],
    ids=["nothing", "cut", "garbage"],
)
def test_a_failure_is_reported_in_the_answer(pieces: tuple[bytes, ...], status: int, failure: str) -> None:
    (answer,) = ask(saying(*pieces))
    assert (answer.status, answer.failure, answer.complete) == (status, failure, False)


def test_a_server_that_does_not_answer_is_a_timeout() -> None:
    async def hanging(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    assert [answer.failure for answer in ask(hanging, timeout_s=0.01)] == ["timeout"]


def test_no_server_is_a_connect_failure() -> None:
    async def scenario() -> Answer:
        return await Client(HOST, free_ports(1)[0]).get("/", HANG_S)

    answer = asyncio.run(scenario())
    assert (answer.failure, answer.status, answer.complete) == ("connect", 0, False)


def closing_on_the_second(requests: list[bytes]) -> Behaviour:
    """Answers a connection's first request and closes the connection without reading the next."""

    async def behaviour(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        requests.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(OK)
        requests.append(await reader.readuntil(b"\r\n\r\n"))

    return behaviour


def test_with_resend_a_request_on_a_connection_just_closed_is_sent_again_and_otherwise_never() -> None:
    received: list[bytes] = []
    assert [answer.failure for answer in ask(closing_on_the_second(received), 2, resend=True)] == ["", ""]
    assert len(received) == 3
    received.clear()
    assert [answer.failure for answer in ask(closing_on_the_second(received), 2)] == ["", "connection_lost"]
    assert len(received) == 2
