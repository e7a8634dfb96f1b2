"""The client's side of one HTTP/1.1 connection: sends a request, keeps the whole answer, and says when its parts came.

It judges nothing: what makes an answer whole is `verdict.py`'s. Kept connections that the server has closed meanwhile
are opened again before a request is sent, never after: what was sent once is not sent twice.
"""

from __future__ import annotations

import asyncio
from time import perf_counter
from typing import cast

import httptools

_REPLICA = b"x-turnout-replica"
_POD = b"x-turnout-pod"


class Answer:
    """What came back. Times are `perf_counter`'s."""

    __slots__ = ("body", "ended_at", "first_at", "headers", "message_complete", "sent_at", "status")

    def __init__(self, sent_at: float) -> None:
        self.sent_at = sent_at
        self.status = 0
        """0: not even a status line came."""
        self.headers: dict[bytes, bytes] = {}
        self.body: list[bytes] = []
        self.first_at = 0.0
        """When the first byte of the body came; 0 if none did."""
        self.ended_at = 0.0
        self.message_complete = False
        """Its end was seen, as HTTP frames it: not just the connection's."""

    @property
    def replica(self) -> str:
        """Which replica answered."""
        return self.headers.get(_REPLICA, b"").decode()

    @property
    def pod(self) -> str:
        """Which pod answered."""
        return self.headers.get(_POD, b"").decode()


class Wire(asyncio.Protocol):
    """One connection."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpResponseParser(self)
        self.answer = Answer(0.0)
        """The present one, as far as it has come."""
        self._over: asyncio.Future[None] | None = None

    @property
    def usable(self) -> bool:
        """Whether another request can be sent on it."""
        return self._transport is not None and not self._transport.is_closing()

    @property
    def began(self) -> bool:
        """Whether a piece of the present answer's body is here."""
        return bool(self.answer.body)

    async def exchange(self, request: bytes) -> Answer:
        """Send and wait for the end, whichever comes: the answer's or the connection's."""
        answer = self.answer = Answer(perf_counter())
        if self._transport is not None:
            self._over = asyncio.get_running_loop().create_future()
            self._transport.write(request)
            await self._over
        answer.ended_at = perf_counter()
        return answer

    def abort(self) -> None:
        """Close at once, whatever is under way."""
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Connected."""
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is one in all but name

    def connection_lost(self, exc: Exception | None) -> None:
        """The end of whatever was under way."""
        self._transport = None
        self._end()

    def data_received(self, data: bytes) -> None:
        """Bytes of the answer."""
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self.abort()

    def on_header(self, name: bytes, value: bytes) -> None:
        """One header."""
        self.answer.headers[name.lower()] = value

    def on_headers_complete(self) -> None:
        """The status is known."""
        self.answer.status = self._parser.get_status_code()

    def on_body(self, data: bytes) -> None:
        """A piece of the body."""
        answer = self.answer
        if not answer.body:
            answer.first_at = perf_counter()
        answer.body.append(data)

    def on_message_complete(self) -> None:
        """The whole answer is here."""
        self.answer.message_complete = True
        if not self._parser.should_keep_alive() and self._transport is not None:
            self._transport.close()
        self._end()

    def _end(self) -> None:
        if self._over is not None and not self._over.done():
            self._over.set_result(None)


class Client:
    """One user's connection, kept while the server keeps it."""

    def __init__(self, host: str, port: int) -> None:
        self._host, self._port = host, port
        self._wire: Wire | None = None

    async def post(self, body: bytes, timeout_s: float) -> Answer:
        """POST /v1/chat/completions. What went wrong shows in the answer: nothing is raised but cancellation."""
        head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: {self._host}:{self._port}\r\n"
        request = f"{head}content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n".encode() + body
        asked_at = perf_counter()
        try:
            async with asyncio.timeout(timeout_s):
                wire = await self._connected()
                return await wire.exchange(request)
        except (OSError, TimeoutError):
            answer = self._wire.answer if self._wire is not None else Answer(asked_at)
            answer.ended_at = perf_counter()
            self.close()
            return answer
        except asyncio.CancelledError:
            self.close()
            raise

    async def _connected(self) -> Wire:
        if self._wire is None or not self._wire.usable:
            loop = asyncio.get_running_loop()
            _, self._wire = await loop.create_connection(Wire, self._host, self._port)
        return self._wire

    def close(self) -> None:
        """Vanish, whatever is under way."""
        if self._wire is not None:
            self._wire.abort()
            self._wire = None
