"""The control port's one ASGI middleware, before the routes: it lets a request pass or refuses it (`access.py`), notes
changes and refusals in the audit log, gives every answer its headers, and answers 500 where a route fails.
"""

from __future__ import annotations

import logging
import re
import secrets
from collections.abc import Mapping
from typing import Final

import msgspec
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from router.control.access import AccessRefused, ControlAccess
from router.control.answers import refusal
from router.control.audit import Attempt
from router.control.author import AUTHOR, author_of
from router.control.plane import ControlPlane
from router.control.roles import FoundRoute, route_of
from statesync.errors import StateError

_log = logging.getLogger("turnout.control")

_MOST_SHOWN: Final = 65536
"""Bytes of an answer that are kept for the audit log."""

_REQUEST_ID = re.compile(r"[\x21-\x7e]{1,128}")

_ALWAYS: Final[Mapping[str, str]] = {
    "x-content-type-options": "nosniff",
    "cache-control": "no-store",
    "cross-origin-resource-policy": "same-origin",
    "content-security-policy": "default-src 'none'; frame-ancestors 'none'",
}
"""Headers of every answer that has no other value of its own."""


class ControlGuard:
    """ASGI middleware; what it passes on has the caller in `scope["state"]`."""

    def __init__(self, app: ASGIApp, *, plane: ControlPlane) -> None:
        self._app = app
        self._plane = plane
        self._access = ControlAccess(plane.settings.control, plane.tokens, plane.clock)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or answer why not."""
        if scope["type"] == "websocket":
            await send({"type": "websocket.close"})  # no route takes one
            return
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        wanted = headers.get("x-request-id", "")
        request_id = wanted if _REQUEST_ID.fullmatch(wanted) else secrets.token_hex(16)
        answer = _Answer(send, request_id)
        method, path = scope["method"], scope["path"]
        address = scope["client"][0] if scope.get("client") else ""
        attempt = Attempt(request_id, address, method, path, author_of(headers.get(AUTHOR, "")))
        found, audit = route_of(method, path), self._plane.audit
        try:
            caller = self._access.caller(found, headers, address=address, what=f"{method} {path[:200]}")
        except AccessRefused as why:
            if audit is not None:
                audit.refused(attempt._replace(who=why.caller), status=why.status, code=why.code)
            await refusal(why.status, why.code, str(why), headers=why.headers)(scope, receive, answer.send)
            return
        scope["state"] = {**scope.get("state", {}), "caller": caller}
        if audit is None or found.needs.shows is None:
            await self._answer(scope, receive, answer)
        else:
            answer.kept, before = bytearray(), shown(self._plane, found)
            try:
                await self._answer(scope, receive, answer)
            finally:
                who = attempt._replace(who=caller)
                audit.changed(who, before=before, status=answer.status, answer=answer.decoded())

    async def _answer(self, scope: Scope, receive: Receive, answer: _Answer) -> None:
        try:
            await self._app(scope, receive, answer.send)
        except Exception:
            # Answered here rather than by starlette, which would pass it on to uvicorn to be logged again.
            _log.exception("control port failed", extra={"request_id": answer.request_id})
            if answer.status:
                raise
            why = "the gateway failed; its log says how"
            await refusal(500, "internal_error", why)(scope, receive, answer.send)


class _Answer:
    """An answer on its way out: gets the headers that every answer has, and is kept where it is asked for."""

    def __init__(self, send: Send, request_id: str) -> None:
        self._send = send
        self.request_id = request_id
        self.status = 0
        """0 before it has begun."""
        self.kept: bytearray | None = None

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = MutableHeaders(scope=message)
            headers["x-request-id"] = self.request_id
            for name, value in _ALWAYS.items():
                headers.setdefault(name, value)
        elif self.kept is not None and len(self.kept) < _MOST_SHOWN:
            self.kept += message.get("body", b"")
        await self._send(message)

    def decoded(self) -> object:
        try:
            return msgspec.json.decode(self.kept or b"null")
        except msgspec.DecodeError:
            return None


def shown(plane: ControlPlane, found: FoundRoute) -> object:
    """What a change is about to change; None if there is no such pool or pod."""
    try:
        return found.needs.shows(plane, found.params) if found.needs.shows is not None else None
    except StateError:
        return None
