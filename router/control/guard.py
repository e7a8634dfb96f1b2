"""Access control of /admin: one small ASGI middleware before the routes.

Three checks. A token, when one is set. No page of another site: a browser sends the page's origin, which must be this
host. No rebound name: without a token only names that others cannot point here (addresses, localhost, the configured
host) are accepted, because a hostile page can make its own name resolve to 127.0.0.1. Probes and metrics stay open.
"""

from __future__ import annotations

import hmac
import ipaddress
import logging
import re
import secrets
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from router.control.answers import refusal

_log = logging.getLogger("turnout.control")

GUARDED = "/admin"

_REQUEST_ID = re.compile(r"[\x21-\x7e]{1,128}")


class ControlGuard:
    """ASGI middleware; also gives every answer its x-request-id, and answers 500 where a route fails."""

    def __init__(self, app: ASGIApp, *, token: str, host: str) -> None:
        """`host` is the configured listening host; an empty `token` asks for none."""
        self._app = app
        self._token = token.encode()
        self._host = host

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or answer why not."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        wanted = headers.get("x-request-id", "")
        request_id = wanted if _REQUEST_ID.fullmatch(wanted) else secrets.token_hex(16)

        started = False

        async def send_with_id(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                MutableHeaders(scope=message)["x-request-id"] = request_id
            await send(message)

        refused = self._refusal(headers) if guarded(scope["path"]) else None
        try:
            await (refused or self._app)(scope, receive, send_with_id)
        except Exception:
            # Answered here rather than by starlette, which would pass it on to uvicorn to be logged again.
            _log.exception("control port failed", extra={"request_id": request_id})
            if started:
                raise
            why = "the gateway failed; its log says how"
            await refusal(500, "internal_error", why)(scope, receive, send_with_id)

    def _refusal(self, headers: Headers) -> ASGIApp | None:
        host = headers.get("host", "")
        origin = headers.get("origin")
        if origin is not None and origin.partition("://")[2].lower() != host.lower():
            return refusal(403, "foreign_origin", "the admin API cannot be used from another site's page")
        if self._token:
            if not self._knows_token(headers.get("authorization", "")):
                why = "the admin API needs `Authorization: Bearer <token>`"
                return refusal(401, "invalid_token", why, headers={"www-authenticate": "Bearer"})
        elif not _cannot_be_rebound(_name_in(host), self._host):
            return refusal(403, "foreign_host", "without a token the admin API answers only to its address, not a name")
        return None

    def _knows_token(self, authorization: str) -> bool:
        scheme, _, given = authorization.partition(" ")
        # compare_digest takes the same time wherever the first difference is.
        return hmac.compare_digest(given.strip().encode(), self._token) and scheme.lower() == "bearer"


def guarded(path: str) -> bool:
    """Whether a path belongs to the admin API."""
    return path == GUARDED or path.startswith(GUARDED + "/")


def _name_in(host_header: str) -> str:
    try:
        return urlsplit(f"//{host_header}").hostname or ""
    except ValueError:
        return ""


def _cannot_be_rebound(name: str, configured: str) -> bool:
    if name in ("localhost", configured.strip("[]").lower()):
        return True
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
