"""A small HTTP/1.1 server that behaves like uvicorn with httptools: an object a connection, requests in order.

It knows bytes, framing and keep-alive; the application decides the answer. Writes go straight to the transport;
`paused` is true while the client does not read.
"""

from __future__ import annotations

import asyncio
import socket
import struct
import time
from collections import deque
from email.utils import formatdate
from functools import lru_cache
from http import HTTPStatus
from typing import NamedTuple, Protocol, cast
from urllib.parse import unquote

import httptools

_REASONS = {status.value: status.phrase.encode() for status in HTTPStatus}
_RESET_DELAY_S = 0.005
"""Time for the bytes before a reset to leave: a reset discards what is still unsent."""


class Request(NamedTuple):
    """A complete request."""

    method: str
    path: str
    headers: dict[bytes, bytes]
    """Names in lower case."""
    body: bytes
    query: bytes = b""
    """What follows the question mark."""


class Exchange(Protocol):
    """A request under way."""

    def resume(self) -> None:
        """The client reads again."""

    def cancel(self) -> None:
        """The client is gone."""


class Application(Protocol):
    """Decides the answers."""

    def handle(self, request: Request, connection: Connection, /) -> Exchange | None:
        """Answer now through the connection (None), or later."""


class Connection(asyncio.Protocol):
    """One client connection."""

    def __init__(self, app: Application, pod: bytes, keepalive_s: float, members: set[Connection]) -> None:
        self._app, self._pod, self._keepalive_s, self._members = app, pod, keepalive_s, members
        self._loop = asyncio.get_running_loop()
        self._parser = httptools.HttpRequestParser(self)
        self._transport: asyncio.Transport | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._backlog: deque[tuple[Request, bool, bool]] = deque()
        self._exchange: Exchange | None = None
        self._url, self._headers, self._body = b"", dict[bytes, bytes](), list[bytes]()
        self._keep_alive = True
        self._chunked = True
        """The client reads chunks; one of HTTP/1.0 reads a stream until the connection closes."""
        self.busy = False
        """A request is being answered."""
        self.serving = False
        """`busy`, for requests that are meant for the engine."""
        self.paused = False
        """The client does not read: unwritten data is to be kept."""

    # asyncio's callbacks

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the connection."""
        self._transport = cast(asyncio.Transport, transport)  # uvloop's transports do not descend from asyncio's
        self._members.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """The client is gone: end its request."""
        self._members.discard(self)
        self._transport = None
        self._stop_timer()
        self._backlog.clear()
        if self._exchange is not None:
            self._exchange.cancel()
        self._exchange, self.busy, self.serving = None, False, False

    def data_received(self, data: bytes) -> None:
        """Bytes of one or more requests."""
        self._stop_timer()
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self.close()
        except httptools.HttpParserCallbackError:
            raise  # an error of this program, not of the client: asyncio logs it and closes the connection
        except httptools.HttpParserError:
            self._keep_alive = False
            self.whole(400, b"text/plain; charset=utf-8", b"Invalid HTTP request received.")

    def pause_writing(self) -> None:
        """The client is slower than the answer."""
        self.paused = True

    def resume_writing(self) -> None:
        """It has caught up."""
        self.paused = False
        if self._exchange is not None:
            self._exchange.resume()

    # httptools' callbacks

    def on_message_begin(self) -> None:
        """A new request."""
        self._url, self._headers, self._body = b"", {}, []

    def on_url(self, url: bytes) -> None:
        """A piece of the target."""
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """One header."""
        self._headers[name.lower()] = value

    def on_headers_complete(self) -> None:
        """Send 100-continue to a client that expects it."""
        if self._headers.get(b"expect", b"").lower() == b"100-continue" and self._transport and not self.busy:
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_body(self, body: bytes) -> None:
        """A piece of the body."""
        self._body.append(body)

    def on_message_complete(self) -> None:
        """A whole request: answer it, or queue it behind the one under way."""
        target, _, query = self._url.partition(b"?")
        path = unquote(target.decode("latin-1"))
        request = Request(self._parser.get_method().decode(), path, self._headers, b"".join(self._body), query)
        http11 = self._parser.get_http_version() == "1.1"
        # As uvicorn does: an HTTP/1.0 connection is never kept, whatever its client asks for.
        self._backlog.append((request, http11 and self._parser.should_keep_alive(), http11))
        if self.busy:
            if self._transport is not None:
                self._transport.pause_reading()
            return
        self._next()

    def _next(self) -> None:
        while self._backlog and not self.busy and self._transport is not None:
            request, self._keep_alive, self._chunked = self._backlog.popleft()
            self.busy = True
            self.serving = not request.path.startswith("/sim/")
            exchange = self._app.handle(request, self)
            if self.busy:
                self._exchange = exchange

    # Answering

    def whole(self, status: int, content_type: bytes, body: bytes, extra: bytes = b"") -> None:
        """A complete answer; an empty type is left out. `extra` is further header lines, each ended by CRLF."""
        head = self._head(status, content_type, extra)
        self._write(b"%bcontent-length: %d\r\n\r\n%b" % (head, len(body), body))
        self._answered()

    def open(self, content_type: bytes) -> None:
        """The head of a streamed answer."""
        framing = b"transfer-encoding: chunked\r\n" if self._chunked else b""
        self._write(self._head(200, content_type, framing) + b"\r\n")

    def send(self, data: bytes) -> None:
        """One chunk of it."""
        self._write(b"%x\r\n%b\r\n" % (len(data), data) if self._chunked else data)

    def end(self) -> None:
        """Its end."""
        if self._chunked:
            self._write(b"0\r\n\r\n")
        self._answered()

    def raw(self, data: bytes) -> None:
        """Bytes as they are, framing or not; for answers that are wrong on purpose."""
        self._write(data)

    def close(self) -> None:
        """Close once everything written was sent."""
        if self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        """Close now; unsent data is lost."""
        if self._transport is not None:
            self._transport.abort()

    def reset(self) -> None:
        """Cut the connection with a TCP reset."""
        self._loop.call_later(_RESET_DELAY_S, self._reset_now)

    def _reset_now(self) -> None:
        if self._transport is None:
            return
        raw = self._transport.get_extra_info("socket")
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._transport.abort()

    def _write(self, data: bytes) -> None:
        if self._transport is not None:
            self._transport.write(data)

    def _head(self, status: int, content_type: bytes, extra: bytes) -> bytes:
        closing = b"" if self._keep_alive else b"connection: close\r\n"
        kind = b"content-type: %b\r\n" % content_type if content_type else b""
        pattern = b"HTTP/1.1 %d %b\r\ndate: %b\r\nserver: uvicorn\r\n%bx-inference-pod: %b\r\n%b%b"
        return pattern % (
            status,
            _REASONS[status],
            http_date(int(time.time())),
            kind,
            self._pod,
            closing,
            extra,
        )

    def _answered(self) -> None:
        self._exchange, self.busy, self.serving = None, False, False
        if self._transport is None:
            return
        if not self._keep_alive:
            self._transport.close()
        elif self._backlog:
            self._loop.call_soon(self._continue)
        else:
            self._timer = self._loop.call_later(self._keepalive_s, self._expire)

    def _continue(self) -> None:
        if self._transport is not None:
            self._transport.resume_reading()
        self._next()

    def _expire(self) -> None:
        self._timer = None
        if not self.busy:
            self.close()

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


@lru_cache(maxsize=2)
def http_date(second: int) -> bytes:
    """The `date` header; formatted once a second."""
    return formatdate(second, usegmt=True).encode()
