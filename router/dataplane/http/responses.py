"""The answers that the gateway writes itself: local answers, errors in the shape of each API, the SSE error event.
Pure; knows no socket.
"""

from __future__ import annotations

import http
import json
import math
import re
from enum import Enum
from typing import Final

from router.errors import GatewayError, InvalidApiKey, MethodNotAllowed, PodFailure

_REASON = {status.value: status.phrase.encode() for status in http.HTTPStatus}

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
CLOSE: Final = b"connection: close\r\n"
KEEP_ALIVE: Final = b"connection: keep-alive\r\n"
"""For HTTP/1.0, whose clients wait for the close without it."""
CRLF = b"\r\n"
Headers = tuple[tuple[bytes, bytes], ...]


def status_line(status: int) -> bytes:
    """The status line with its line end, such as `HTTP/1.1 503 Service Unavailable`."""
    return b"HTTP/1.1 %d %b\r\n" % (status, _REASON.get(status, b"Unknown"))


def whole(
    status: int,
    body: bytes,
    *,
    content_type: bytes = b"application/json",
    headers: Headers = (),
    connection: bytes = b"",
    head_only: bool = False,
) -> bytes:
    """A complete answer. `connection` is its `Connection` line, if any.
    `head_only` leaves the body out but keeps its length, for HEAD."""
    parts = [status_line(status), b"content-type: ", content_type, CRLF, b"content-length: %d\r\n" % len(body)]
    for name, value in headers:
        parts += (name, b": ", value, CRLF)
    parts += (connection, CRLF)
    if not head_only:
        parts.append(body)
    return b"".join(parts)


def no_content(headers: Headers, *, close: bool) -> bytes:
    """A complete answer 204, which has no body and no length."""
    parts = [status_line(204)]
    for name, value in headers:
        parts += (name, b": ", value, CRLF)
    if close:
        parts.append(b"connection: close\r\n")
    return b"".join(parts) + CRLF


class Dialect(Enum):
    """The API whose clients read an answer: errors have another shape in each."""

    OPENAI = "openai"
    ANTHROPIC = "anthropic"
    RESPONSES = "responses"
    """OpenAI's, whose streams are events with a `type` and a number."""


ANTHROPIC_TYPES: Final = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
    504: "timeout_error",
}
"""Anthropic's type of an error by its status. Any other status from 500 on is an `api_error`, below it the request is
at fault: `invalid_request_error`."""

_SEQUENCE: Final = re.compile(rb'"sequence_number": ?(\d{1,15})\b')


def dialect_of(path: bytes) -> Dialect:
    """The API to which a path belongs."""
    if path.startswith(b"/v1/messages"):
        return Dialect.ANTHROPIC
    return Dialect.RESPONSES if path.startswith(b"/v1/responses") else Dialect.OPENAI


def error_body(error: GatewayError, dialect: Dialect = Dialect.OPENAI) -> bytes:
    """The error as JSON: OpenAI's error object, or Anthropic's."""
    shape = error.shape
    if dialect is Dialect.ANTHROPIC:
        kind = ANTHROPIC_TYPES.get(shape.status, "api_error" if shape.status >= 500 else "invalid_request_error")
        return _json({"type": "error", "error": {"type": kind, "message": error.message, "code": shape.code}})
    inner = {"message": error.message, "type": shape.type, "param": error.param, "code": shape.code}
    return _json({"error": inner})


def _json(value: dict[str, object]) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def error_answer(
    error: GatewayError,
    headers: Headers,
    *,
    connection: bytes,
    head_only: bool = False,
    dialect: Dialect | None = None,
) -> bytes:
    """The whole answer for `error`, with its code as x-turnout-reason, and Retry-After (whole seconds, at least 1),
    Allow, WWW-Authenticate and x-should-retry where the error has them."""
    extra = (*headers, (b"x-turnout-reason", error.shape.code.encode()))
    if error.retry_after_s is not None:
        extra += ((b"retry-after", b"%d" % max(1, math.ceil(error.retry_after_s))),)
    if isinstance(error, PodFailure) and not error.repeatable:
        extra += ((b"x-should-retry", b"false"),)  # the SDKs of OpenAI and Anthropic heed it
    if isinstance(error, MethodNotAllowed):
        extra += ((b"allow", error.allow.encode()),)
    if isinstance(error, InvalidApiKey):
        extra += ((b"www-authenticate", b"Bearer"),)  # RFC 9110, 15.5.2: a 401 names the scheme
    body = error_body(error, dialect or dialect_of(error.path))
    return whole(error.shape.status, body, headers=extra, connection=connection, head_only=head_only)


def error_event(error: GatewayError, dialect: Dialect = Dialect.OPENAI, before: bytes = b"") -> bytes:
    """The SSE event that ends a stream which cannot go on; no `[DONE]` follows it. `before`: the end of what the client
    has, from which an event of `/v1/responses` takes its number."""
    if dialect is Dialect.RESPONSES:
        numbers = _SEQUENCE.findall(before)
        fields = {"code": error.shape.code, "message": error.message, "param": error.param}
        number = int(numbers[-1]) + 1 if numbers else 0
        return b"event: error\ndata: " + _json({"type": "error", **fields, "sequence_number": number}) + b"\n\n"
    name = b"event: error\n" if dialect is Dialect.ANTHROPIC else b""
    return name + b"data: " + error_body(error, dialect) + b"\n\n"
