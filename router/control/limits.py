"""The limits of the control port: connections, the size of a request's head and body, the time it may take to come, and
the rate of requests. They are fixed: its requests are small, and its clients few. The event loop is the data plane's:
what one address can make it do here is bounded, and a flood is slowed down rather than answered.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any, Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from router.control.address_pace import AddressPace, counted_for
from router.control.answers import refusal

MAX_CONNECTIONS: Final = 100
MAX_CONNECTIONS_EACH: Final = 50
"""Of one address: the others are left for probes, which must get through."""

MAX_PIPELINED: Final = 16
"""Requests of one connection that wait for the answer to an earlier one."""

REQUESTS_PER_S: Final = 100.0
REQUESTS_BURST: Final = 400
"""Of one address, new connections included. Beyond it a request waits for its turn."""

MOST_WAIT_S: Final = 1.0
"""A request waits no longer, so that a drain can end; its address, which must have left others behind, gets no further
connection."""

MAX_HEAD_BYTES: Final = 65536
MAX_BODY_BYTES: Final = 1 << 20
"""A policy with its parameters is a page or two."""

MAX_READ_BYTES: Final = 16 << 20
"""Read of a body, most of it dropped, before a connection is closed over the rest of it."""

REQUEST_S: Final = 10.0
"""Seconds from a connection's begin, or from a further request's first byte, to the end of that request; and for an
answer to be taken."""

_LOG_S: Final = 10.0


class _Seldom(logging.Filter):
    """Passes one record every ten seconds: a flood of bad requests must not become one of log lines."""

    def __init__(self) -> None:
        super().__init__()
        self._next = 0.0

    def filter(self, record: logging.LogRecord) -> bool:
        """See logging.Filter."""
        if record.levelno < logging.ERROR and record.created < self._next <= record.created + _LOG_S:
            return False
        self._next = record.created + _LOG_S
        return True


_seldom = logging.getLogger("turnout.control.connections")
_seldom.addFilter(_Seldom())


class LimitedHttp(HttpToolsProtocol):
    """A connection of the control port. One too many is closed at once, and one whose request does not come."""

    pace: AddressPace
    """Of the server."""
    rules = 0
    """Of the server, too: another number whenever other clients than before may be let in."""

    def __init__(self, *given: Any, **named: Any) -> None:
        super().__init__(*given, **named)
        self.logger = _seldom
        self._let_in_by = self.rules
        self.counted_for = ""
        """The client for which it counts."""
        self._due: asyncio.TimerHandle | None = None
        self._taken: asyncio.TimerHandle | None = None
        self._answers = 0
        self._head_bytes = 0
        """Of the head being read; 0 outside of one."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """See asyncio.Protocol."""
        super().connection_made(transport)
        address = self.client[0] if self.client is not None else ""
        client = self.counted_for = counted_for(address)
        each = sum(isinstance(other, LimitedHttp) and other.counted_for == client for other in self.connections)
        if (
            len(self.connections) > MAX_CONNECTIONS
            or each > MAX_CONNECTIONS_EACH
            or self.pace.wait_s(address) > MOST_WAIT_S
        ):
            _seldom.warning("%s has %d of %d connections here: one more is closed", address, each, MAX_CONNECTIONS)
            transport.abort()
        else:
            self._await_request()
        self.pace.count(address)

    def connection_lost(self, exc: Exception | None) -> None:
        """See asyncio.Protocol."""
        self._came()
        if self._taken is not None:
            self._taken.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """See asyncio.Protocol."""
        super().data_received(data)
        if self._head_bytes and not self.transport.is_closing():
            self._head_bytes += len(data)
            if self._head_bytes > MAX_HEAD_BYTES:
                self.transport.abort()

    def on_message_begin(self) -> None:
        """A request's first byte."""
        super().on_message_begin()
        self._head_bytes = 1
        self._await_request()

    def on_headers_complete(self) -> None:
        """Its head is whole. What is raised here becomes an answer with 400."""
        self._head_bytes = 0
        if not self.url.startswith(b"/"):
            # With an authority of its own, or `*`: it could differ from the Host header, which is what is checked.
            raise ValueError("the target of a request is a path")
        super().on_headers_complete()
        if self._let_in_by != self.rules:
            self.cycle.keep_alive = False  # answered, and none follows: its certificate may be revoked
        if len(self.pipeline) > MAX_PIPELINED:
            self.transport.abort()
            raise ValueError("too many requests at once")  # or the rest of what came would be read

    def on_message_complete(self) -> None:
        """It is whole."""
        self._came()
        super().on_message_complete()

    def pause_writing(self) -> None:
        """The client takes its answer more slowly than it comes."""
        super().pause_writing()
        self._await_reader()

    def on_response_complete(self) -> None:
        """An answer is written, but perhaps not sent."""
        self._answers += 1
        super().on_response_complete()
        if self.transport.get_write_buffer_size():
            self._await_reader()

    def _await_reader(self) -> None:
        if self._taken is None:
            self._taken = self.loop.call_later(REQUEST_S, self._taken_by_now, self._answers)

    def _taken_by_now(self, answers: int) -> None:
        """Close a connection whose client has not taken what was written for it; it may be at a later answer."""
        self._taken = None
        if self.transport.get_write_buffer_size():
            if self._answers == answers:
                self.transport.abort()
            else:
                self._await_reader()

    def _await_request(self) -> None:
        if self._due is None:
            self._due = self.loop.call_later(REQUEST_S, self.transport.abort)

    def _came(self) -> None:
        if self._due is not None:
            self._due.cancel()
            self._due = None


class Turns:
    """ASGI middleware in which a request waits for its turn where its address sent more than its rate."""

    def __init__(self, app: ASGIApp, pace: AddressPace) -> None:
        self._app = app
        self._pace = pace

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, in its turn."""
        address = scope["client"][0] if scope.get("client") else ""
        wait_s = self._pace.wait_s(address)
        self._pace.count(address)
        if wait_s:
            await asyncio.sleep(min(wait_s, MOST_WAIT_S))
        await self._app(scope, receive, send)


class BodyLimit:
    """ASGI middleware that answers 413 for a body of more than `MAX_BODY_BYTES`, before it is in memory."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or refuse it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        body = _Body(receive, send, expected=_comes(headers))
        announced = headers.get(b"content-length", b"0")
        if len(announced) > 15 or int(announced) > MAX_BODY_BYTES:
            await _too_large(scope, receive, body.answer)
            return

        async def counted() -> Message:
            message = await body.receive()
            if body.size > MAX_BODY_BYTES:
                raise _BodyTooLarge
            return message

        try:
            await self._app(scope, counted, body.answer)
        except _BodyTooLarge:
            await _too_large(scope, receive, body.answer)


def _comes(headers: dict[bytes, bytes]) -> bool:
    """Whether a body comes, of which nothing was read: not from a client that waits to be asked for it."""
    return not headers.keys().isdisjoint((b"content-length", b"transfer-encoding")) and b"expect" not in headers


class _Body:
    """The body of one request, which is read before its answer ends: a connection that is closed over unread bytes is
    reset, and the answer may be lost with it (RFC 9112, 9.6). The time for it is that of the request."""

    def __init__(self, receive: Receive, send: Send, *, expected: bool) -> None:
        self.size = 0
        self._receive, self._send = receive, send
        self._over = not expected

    async def receive(self) -> Message:
        """The next part."""
        message = await self._receive()
        self.size += len(message.get("body", b""))
        self._over = not message.get("more_body", False)
        return message

    async def answer(self, message: Message) -> None:
        """Send a part of the answer; the last one, once there is nothing more to read."""
        if not self._over and message["type"] == "http.response.body" and not message.get("more_body", False):
            await self._send({**message, "more_body": True})
            while not self._over and self.size < MAX_READ_BYTES:
                await self.receive()
            message = {"type": "http.response.body"}
        await self._send(message)


class _BodyTooLarge(BaseException):
    """No Exception: what is inside of this middleware answers those itself."""


async def _too_large(scope: Scope, receive: Receive, send: Send) -> None:
    why = f"the control port takes bodies of up to {MAX_BODY_BYTES} bytes"
    await refusal(413, "body_too_large", why, headers={"connection": "close"})(scope, receive, send)
