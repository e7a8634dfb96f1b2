"""The transport that resumes streams, against a server whose connections break where a test says."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator

import httpx
import pytest

from router import resuming
from router.resuming import AsyncResumingTransport, ResumingTransport, WholeEvents

STREAM = {"content-type": "text/event-stream"}
Reply = Callable[[httpx.Request], httpx.Response]


class Pieces(httpx.SyncByteStream, httpx.AsyncByteStream):
    """A body that may end in an error."""

    def __init__(self, pieces: list[bytes | Exception]) -> None:
        self._pieces = pieces

    def __iter__(self) -> Iterator[bytes]:
        for piece in self._pieces:
            if isinstance(piece, Exception):
                raise piece
            yield piece

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for piece in self:
            yield piece

    def close(self) -> None:
        """Nothing is open."""

    async def aclose(self) -> None:
        """Nothing is open."""


def stream(*pieces: bytes | Exception) -> Reply:
    return lambda request: httpx.Response(200, headers=STREAM, stream=Pieces(list(pieces)))


def fails(error: Exception) -> Reply:
    def reply(request: httpx.Request) -> httpx.Response:
        raise error

    return reply


class Server:
    """Answers one request after another, and keeps them."""

    def __init__(self, *replies: Reply) -> None:
        self._replies = iter(replies)
        self.asked: list[httpx.Request] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(request)
        return next(self._replies)(request)


BROKEN = httpx.RemoteProtocolError("incomplete chunked read")


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resuming, "_PAUSE_S", 0.0)


def read(server: Server) -> bytes:
    with httpx.Client(transport=ResumingTransport(httpx.MockTransport(server))) as client:
        return client.post("http://g/v1/chat/completions", content=b"{}", headers={"x-a": "b"}).content


async def read_async(server: Server) -> bytes:
    async with httpx.AsyncClient(transport=AsyncResumingTransport(httpx.MockTransport(server))) as client:
        return (await client.post("http://g/v1/chat/completions", content=b"{}", headers={"x-a": "b"})).content


@pytest.fixture(params=["sync", "async"])
def reads(request: pytest.FixtureRequest) -> Callable[[Server], bytes]:
    return read if request.param == "sync" else lambda server: asyncio.run(read_async(server))


Reads = Callable[[Server], bytes]


def test_a_broken_stream_goes_on_after_the_last_whole_event(reads: Reads) -> None:
    server = Server(
        stream(b"id: s.1\ndata: a\n\nid: s.2\nda", BROKEN),
        stream(b"id: s.2\ndata: b\n\n", b"id: s.3\ndata: [DONE]\n\n"),
    )
    assert reads(server) == b"id: s.1\ndata: a\n\nid: s.2\ndata: b\n\nid: s.3\ndata: [DONE]\n\n"
    first, second = server.asked
    assert "last-event-id" not in first.headers
    assert second.headers["last-event-id"] == "s.1"
    assert (second.method, second.url, second.content, second.headers["x-a"]) == ("POST", first.url, b"{}", "b")


def test_replicas_that_cannot_be_reached_or_have_no_room_are_asked_again(reads: Reads) -> None:
    server = Server(
        stream(b"id: s.1\ndata: a\n\n", BROKEN),
        fails(httpx.ConnectError("refused")),
        lambda request: httpx.Response(503, text="draining"),
        stream(b"id: s.2\ndata: b\n\n", httpx.ReadError("reset")),
        stream(b"id: s.3\ndata: c\n\n"),
    )
    assert reads(server).count(b"data") == 3
    assert [each.headers.get("last-event-id") for each in server.asked] == [None, "s.1", "s.1", "s.1", "s.2"]


def test_a_stream_that_cannot_be_resumed_is_an_error_that_says_why(reads: Reads) -> None:
    server = Server(stream(b"id: s.1\ndata: a\n\n", BROKEN), lambda request: httpx.Response(404, text="no such stream"))
    with pytest.raises(httpx.RemoteProtocolError, match="status 404, no such stream"):
        reads(server)


def test_it_does_not_ask_for_ever(reads: Reads) -> None:
    server = Server(stream(b"id: s.1\ndata: a\n\n", BROKEN), *[fails(httpx.ConnectError("refused"))] * 10)
    with pytest.raises(httpx.ConnectError):
        reads(server)
    assert len(server.asked) == 11


def test_a_stream_without_ids_fails_as_without_this_transport(reads: Reads) -> None:
    with pytest.raises(httpx.RemoteProtocolError, match="incomplete"):
        reads(Server(stream(b"data: a\n\n", BROKEN)))


def test_other_answers_are_passed_on_as_they_are(reads: Reads) -> None:
    assert reads(Server(lambda request: httpx.Response(200, json={"a": 1}))) == b'{"a":1}'
    assert reads(Server(stream(b"data: a\n\ndata: rest"))) == b"data: a\n\ndata: rest"


def test_the_last_id_is_that_of_a_whole_event() -> None:
    events = WholeEvents()
    assert events.feed(b"id: 1\r\ndata: a\r\n\r\nid: 2\r\n") == b"id: 1\r\ndata: a\r\n\r\n"
    assert events.last_id == b"1"
    assert events.feed(b"data: id: 9\r\n\r\n") == b"id: 2\r\ndata: id: 9\r\n\r\n"
    assert events.last_id == b"2"
