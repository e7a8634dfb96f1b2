"""The loads' HTTP/1.1 client: one connection, one request at a time, each piece of the answer kept with its time.

It judges no answer and knows no API. It is written on asyncio.Protocol and httptools: httpx costs ten times as much a
chunk, which a load generator on the measured machine cannot afford. Times are `perf_counter`'s: uvloop's own clock
counts milliseconds.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from time import perf_counter
from typing import Final, cast

import httptools

CONNECT, TIMEOUT, CONNECTION_LOST, BAD_HTTP = "connect", "timeout", "connection_lost", "bad_http"
NO_HEADERS: Final[Mapping[str, str]] = {}


class Answer:
    """What arrived for one request."""

    __slots__ = ("complete", "ended_at", "failure", "headers", "pieces", "sent_at", "status", "times")

    def __init__(self, sent_at: float) -> None:
        self.sent_at = sent_at
        self.status = 0
        """0: not even a status line arrived."""
        self.headers: dict[str, str] = {}
        """By lower-case name."""
        self.pieces: list[bytes] = []
        """The body, as it was cut in transit."""
        self.times: list[float] = []
        """The arrival of each piece."""
        self.ended_at = 0.0
        self.complete = False
        """Whether the end of the message arrived, as HTTP frames it."""
        self.failure = ""
        """`connect`, `timeout`, `connection_lost` or `bad_http`: why the message has no end; empty if it has one."""

    @property
    def body(self) -> bytes:
        """All pieces."""
        return b"".join(self.pieces)

    @property
    def first_at(self) -> float:
        """The arrival of the first byte of the body; 0 if there is none."""
        return self.times[0] if self.times else 0.0


class ClientConnection(asyncio.Protocol):
    """One connection to a server, and the answer that is read from it."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpResponseParser(self)
        self.answer = Answer(0.0)
        """The answer to the latest request, as far as it has arrived."""
        self._ended: asyncio.Future[None] | None = None

    @property
    def usable(self) -> bool:
        """Whether another request can be sent."""
        return self._transport is not None and not self._transport.is_closing()

    async def exchange(self, request: bytes) -> Answer:
        """Send a request; return at the end of the answer or of the connection."""
        answer = self.answer = Answer(perf_counter())
        if self._transport is None:
            answer.failure = CONNECTION_LOST
        else:
            self._ended = asyncio.get_running_loop().create_future()
            self._transport.write(request)
            await self._ended
        answer.ended_at = perf_counter()
        return answer

    def abort(self) -> None:
        """Close at once; a request under way fails."""
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport to write to."""
        self._transport = cast(asyncio.Transport, transport)  # uvloop's transports do not descend from asyncio's

    def connection_lost(self, exc: Exception | None) -> None:
        """A request under way has failed; an idle connection is gone."""
        self._transport = None
        self._end(CONNECTION_LOST)

    def data_received(self, data: bytes) -> None:
        """Bytes of the answer."""
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self._end(BAD_HTTP)
            self.abort()

    def on_header(self, name: bytes, value: bytes) -> None:
        """One header."""
        self.answer.headers[name.decode().lower()] = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        """The status is known."""
        self.answer.status = self._parser.get_status_code()

    def on_body(self, data: bytes) -> None:
        """A piece of the body."""
        self.answer.times.append(perf_counter())
        self.answer.pieces.append(data)

    def on_message_complete(self) -> None:
        """The answer has ended, as HTTP frames it."""
        self.answer.complete = True
        if not self._parser.should_keep_alive() and self._transport is not None:
            self._transport.close()
        self._end("")

    def _end(self, failure: str) -> None:
        if self._ended is not None and not self._ended.done():
            self.answer.failure = failure
            self._ended.set_result(None)


class Client:
    """Requests to one address, one at a time, over a connection that is kept and opened again after it was closed.

    With `resend`, a request on a kept connection that ends without a byte of an answer is sent once more on a new one:
    the server may close an idle connection at that moment. Without it, nothing is ever sent twice.
    """

    def __init__(self, host: str, port: int, *, resend: bool = False) -> None:
        self._host, self._port, self._resend = host, port, resend
        self._connection: ClientConnection | None = None

    async def get(self, path: str, timeout_s: float) -> Answer:
        """GET. Whatever goes wrong is the answer's `failure`; only cancellation is raised."""
        return await self._request(
            f"GET {path} HTTP/1.1\r\nhost: {self._host}:{self._port}\r\n\r\n".encode(), timeout_s
        )

    async def post(self, path: str, body: bytes, timeout_s: float, headers: Mapping[str, str] = NO_HEADERS) -> Answer:
        """POST a JSON body. Whatever goes wrong is the answer's `failure`; only cancellation is raised."""
        extra = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        head = f"POST {path} HTTP/1.1\r\nhost: {self._host}:{self._port}\r\n{extra}content-type: application/json\r\n"
        return await self._request(f"{head}content-length: {len(body)}\r\n\r\n".encode() + body, timeout_s)

    def close(self) -> None:
        """Close the connection at once."""
        if self._connection is not None:
            self._connection.abort()
            self._connection = None

    async def _request(self, request: bytes, timeout_s: float) -> Answer:
        asked_at = perf_counter()
        try:
            async with asyncio.timeout(timeout_s):
                return await self._exchange(request)
        except (OSError, TimeoutError) as error:
            answer = self._connection.answer if self._connection is not None else Answer(asked_at)
            answer.failure = TIMEOUT if isinstance(error, TimeoutError) else CONNECT
            answer.ended_at = perf_counter()
            self.close()
            return answer
        except asyncio.CancelledError:
            self.close()
            raise

    async def _exchange(self, request: bytes) -> Answer:
        kept = self._connection
        if kept is not None and kept.usable:
            answer = await kept.exchange(request)
            if not self._resend or answer.failure != CONNECTION_LOST or answer.status:
                return answer
        self._connection = None
        loop = asyncio.get_running_loop()
        _, self._connection = await loop.create_connection(ClientConnection, self._host, self._port)
        return await self._connection.exchange(request)
