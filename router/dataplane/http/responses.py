"""The answers that the gateway writes itself: local answers, errors, the SSE error event. Pure; knows no socket."""

from __future__ import annotations

import http
import json
import math

from router.errors import GatewayError, MethodNotAllowed, PodFailure

_REASON = {status.value: status.phrase.encode() for status in http.HTTPStatus}

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
CRLF = b"\r\n"
Headers = tuple[tuple[bytes, bytes], ...]
LAST_CHUNK = b"0\r\n\r\n"


def status_line(status: int) -> bytes:
    """The status line with its line end, such as `HTTP/1.1 503 Service Unavailable`."""
    return b"HTTP/1.1 %d %b\r\n" % (status, _REASON.get(status, b"Unknown"))


def whole(
    status: int,
    body: bytes,
    *,
    content_type: bytes = b"application/json",
    headers: Headers = (),
    close: bool = False,
    head_only: bool = False,
) -> bytes:
    """A complete answer. `head_only` leaves the body out but keeps its length, for HEAD."""
    parts = [status_line(status), b"content-type: ", content_type, CRLF, b"content-length: %d\r\n" % len(body)]
    for name, value in headers:
        parts += (name, b": ", value, CRLF)
    if close:
        parts.append(b"connection: close\r\n")
    parts.append(CRLF)
    if not head_only:
        parts.append(body)
    return b"".join(parts)


def error_body(error: GatewayError, *, anthropic: bool = False) -> bytes:
    """OpenAI's error object as JSON; for `anthropic` with `type: error` at the top."""
    shape = error.shape
    inner = {"message": error.message, "type": shape.type, "param": error.param, "code": shape.code}
    outer: dict[str, object] = {"type": "error", "error": inner} if anthropic else {"error": inner}
    return json.dumps(outer, separators=(",", ":")).encode()


def error_answer(
    error: GatewayError,
    headers: Headers,
    *,
    close: bool,
    head_only: bool = False,
    anthropic: bool = False,
) -> bytes:
    """The whole answer for `error`, with Retry-After (whole seconds, at least 1), Allow and x-should-retry where the
    error has them."""
    extra = headers
    if error.retry_after_s is not None:
        extra += ((b"retry-after", b"%d" % max(1, math.ceil(error.retry_after_s))),)
    if isinstance(error, PodFailure) and not error.repeatable:
        extra += ((b"x-should-retry", b"false"),)  # the SDKs of OpenAI and Anthropic heed it
    if isinstance(error, MethodNotAllowed):
        extra += ((b"allow", error.allow.encode()),)
    body = error_body(error, anthropic=anthropic)
    return whole(error.shape.status, body, headers=extra, close=close, head_only=head_only)


def error_event(error: GatewayError, *, anthropic: bool = False) -> bytes:
    """The SSE event that ends a stream which cannot go on; no `[DONE]` follows it."""
    name = b"event: error\n" if anthropic else b""
    return name + b"data: " + error_body(error, anthropic=anthropic) + b"\n\n"


def chunk(payload: bytes) -> bytes:
    """`payload` as one HTTP/1.1 chunk."""
    return b"%x\r\n%b\r\n" % (len(payload), payload)
