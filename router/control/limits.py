"""The limits of the control port: connections, the size of a request's head and body, and the time it may take to come.
They are fixed: its requests are small, and its clients few.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any, Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from router.control.answers import refusal

MAX_CONNECTIONS: Final = 100
MAX_HEAD_BYTES: Final = 65536
MAX_BODY_BYTES: Final = 1 << 20
"""A policy with its parameters is a page or two."""

REQUEST_S: Final = 10.0
"""Seconds from a connection's begin, or from a further request's first byte, to the end of that request."""

_log = logging.getLogger("turnout.control")


class LimitedHttp(HttpToolsProtocol):
    """A connection of the control port. One too many is closed at once, and one whose request does not come."""

    def __init__(self, *given: Any, **named: Any) -> None:
        super().__init__(*given, **named)
        self._due: asyncio.TimerHandle | None = None
        self._head_bytes = 0
        """Of the head being read; 0 outside of one."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """See asyncio.Protocol."""
        super().connection_made(transport)
        if len(self.connections) > MAX_CONNECTIONS:
            _log.warning("the control port has %d connections, all that it may have: one is closed", MAX_CONNECTIONS)
            transport.abort()
        else:
            self._await_request()

    def connection_lost(self, exc: Exception | None) -> None:
        """See asyncio.Protocol."""
        self._came()
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
        """Its head is whole."""
        self._head_bytes = 0
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """It is whole."""
        self._came()
        super().on_message_complete()

    def _await_request(self) -> None:
        if self._due is None:
            self._due = self.loop.call_later(REQUEST_S, self.transport.abort)

    def _came(self) -> None:
        if self._due is not None:
            self._due.cancel()
            self._due = None


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
        announced, size = headers.get(b"content-length", b"0"), 0
        if len(announced) > 15 or int(announced) > MAX_BODY_BYTES:
            await _too_large(scope, receive, send)
            return

        async def counted() -> Message:
            nonlocal size
            message = await receive()
            size += len(message.get("body", b""))
            if size > MAX_BODY_BYTES:
                raise _BodyTooLarge
            return message

        try:
            await self._app(scope, counted, send)
        except _BodyTooLarge:
            await _too_large(scope, receive, send)


class _BodyTooLarge(BaseException):
    """No Exception: what is inside of this middleware answers those itself."""


async def _too_large(scope: Scope, receive: Receive, send: Send) -> None:
    why = f"the control port takes bodies of up to {MAX_BODY_BYTES} bytes"
    await refusal(413, "body_too_large", why, headers={"connection": "close"})(scope, receive, send)
