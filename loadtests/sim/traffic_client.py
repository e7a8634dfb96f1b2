"""A light HTTP/1.1 client for streamed chat completions: asyncio.Protocol and httptools, one connection, one request
at a time. It reads just enough of each event to time it; httpx costs ten times as much per chunk.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from time import perf_counter
from typing import Any, cast

import httptools
import msgspec


class TrafficError(Exception):
    """A request without a complete answer; `kind` is a short constant to count by."""

    def __init__(self, kind: str, detail: str = "") -> None:
        super().__init__(f"{kind} {detail}".strip())
        self.kind = kind


class Reply:
    """What came back for one streamed request. Times are `perf_counter`'s: uvloop's own clock counts milliseconds."""

    def __init__(self) -> None:
        self.sent_at = 0.0
        self.status = 0
        self.headers: dict[str, str] = {}
        self.token_times: list[float] = []
        """When each event with text arrived."""
        self.text: list[str] = []
        self.usage: Mapping[str, Any] = {}
        self.done = False
        """`data: [DONE]` was seen."""
        self.error_body = b""
        self._rest = b""

    @property
    def ttft_s(self) -> float:
        """From sending to the first token."""
        return self.token_times[0] - self.sent_at if self.token_times else 0.0

    @property
    def gaps_s(self) -> list[float]:
        """Time between tokens."""
        return [later - earlier for earlier, later in zip(self.token_times, self.token_times[1:], strict=False)]

    def feed(self, data: bytes, now: float) -> None:
        """Body bytes, cut anywhere."""
        if self.status != 200:
            self.error_body += data[:4096]
            return
        *events, self._rest = (self._rest + data).split(b"\n\n")
        for event in events:
            if event.startswith(b"data: "):
                self._event(event[6:], now)

    def _event(self, data: bytes, now: float) -> None:
        if data == b"[DONE]":
            self.done = True
            return
        fields = msgspec.json.decode(data)
        if "error" in fields:
            raise TrafficError("stream_error", str(fields["error"]))
        for choice in fields.get("choices", ()):
            if content := choice["delta"].get("content"):
                self.token_times.append(now)
                self.text.append(content)
        self.usage = fields.get("usage") or self.usage


class Client:
    """Requests to `host:port`, one at a time, over a connection that is kept and opened again when it was closed."""

    def __init__(self, host: str, port: int) -> None:
        self._host, self._port = host, port
        self._wire: Wire | None = None

    async def chat(self, body: bytes, headers: Mapping[str, str], timeout_s: float) -> Reply:
        """POST /v1/chat/completions and read the whole stream. TrafficError unless it is complete."""
        extra = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: {self._host}:{self._port}\r\n{extra}"
        payload = f"{head}content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n".encode() + body
        try:
            async with asyncio.timeout(timeout_s):
                reply = await self._exchange(payload)
        except TimeoutError:
            self.close()
            raise TrafficError("timeout") from None
        except BaseException:
            self.close()
            raise
        if reply.status != 200:
            raise TrafficError(f"http_{reply.status}", reply.error_body.decode(errors="replace"))
        if not reply.done:
            raise TrafficError("truncated")
        return reply

    def close(self) -> None:
        """Close the connection."""
        if self._wire is not None:
            self._wire.close()
            self._wire = None

    async def _exchange(self, payload: bytes) -> Reply:
        """Send on the kept connection, and once more on a new one if the server had just closed that."""
        if self._wire is not None and self._wire.open:
            reply = Reply()
            try:
                await self._wire.post(payload, reply)
                return reply
            except TrafficError as error:
                if error.kind != "connection_lost" or reply.status:
                    raise
        self._wire, reply = await self._connect(), Reply()
        await self._wire.post(payload, reply)
        return reply

    async def _connect(self) -> Wire:
        loop = asyncio.get_running_loop()
        try:
            _, wire = await loop.create_connection(Wire, self._host, self._port)
        except OSError as error:
            raise TrafficError("connect", str(error)) from None
        return wire


class Wire(asyncio.Protocol):
    """One connection and the reply that is read from it."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._reply = Reply()
        self._ended: asyncio.Future[None] | None = None

    @property
    def open(self) -> bool:
        """Whether another request can be tried on it."""
        return self._transport is not None and not self._transport.is_closing()

    async def post(self, payload: bytes, reply: Reply) -> None:
        """Send a request and fill in the reply. TrafficError when the connection ends before the answer."""
        if self._transport is None:
            raise TrafficError("connection_lost")
        self._reply, self._ended = reply, asyncio.get_running_loop().create_future()
        reply.sent_at = perf_counter()
        self._transport.write(payload)
        await self._ended

    def close(self) -> None:
        """Close at once; a request under way fails."""
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Connected."""
        self._transport = cast(asyncio.Transport, transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """A request under way has failed; an idle connection is just gone."""
        self._transport = None
        self._end(TrafficError("connection_lost"))

    def data_received(self, data: bytes) -> None:
        """Bytes of the answer."""
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            cause = error.__context__
            self._end(cause if isinstance(cause, TrafficError) else TrafficError("bad_http", str(error)))
            self.close()

    def on_header(self, name: bytes, value: bytes) -> None:
        """One header."""
        self._reply.headers[name.decode().lower()] = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        """The status is known."""
        self._reply.status = self._parser.get_status_code()

    def on_body(self, data: bytes) -> None:
        """A piece of the body."""
        self._reply.feed(data, perf_counter())

    def on_message_complete(self) -> None:
        """The answer is complete, as far as HTTP goes."""
        if not self._parser.should_keep_alive():
            self.close()
        self._end(None)

    def _end(self, error: Exception | None) -> None:
        if self._ended is None or self._ended.done():
            return
        if error is None:
            self._ended.set_result(None)
        else:
            self._ended.set_exception(error)
