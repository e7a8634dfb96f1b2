"""How the cases of the corpus are written down, and the requests that most of them are made of."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tests.http_corpus.strict import CRLF, Seen

BODY = b'{"model":"m","prompt":"hi"}'
SIZE = len(BODY)
HOST = b"Host: g"
JSON = b"Content-Type: application/json"
CHUNKED = b"Transfer-Encoding: chunked"


def post(
    *headers: bytes,
    body: bytes = BODY,
    target: bytes = b"/v1/completions",
    method: bytes = b"POST",
    version: bytes = b"HTTP/1.1",
    sized: bool = True,
    host: bool = True,
    eol: bytes = CRLF,
) -> bytes:
    """A request; `sized` gives it a right Content-Length."""
    lines = [method + b" " + target + b" " + version, *([HOST] if host else []), JSON, *headers]
    if sized:
        lines.append(b"Content-Length: %d" % len(body))
    return eol.join(lines) + eol + eol + body


def get(target: bytes = b"/v1/models", *headers: bytes, version: bytes = b"HTTP/1.1", method: bytes = b"GET") -> bytes:
    return CRLF.join([method + b" " + target + b" " + version, HOST, *headers]) + CRLF + CRLF


SMUGGLED = post(target=b"/v1/SMUGGLED")


def chunks(*lines: bytes, body: bytes = BODY, end: bytes = b"0\r\n\r\n", first: bytes | None = None) -> bytes:
    """A chunked request whose size line is `first`."""
    size = b"%x" % len(body) if first is None else first
    return post(CHUNKED, *lines, sized=False, body=size + CRLF + body + CRLF + end)


REFUSED, SERVED, EITHER, LOCAL = "refused", "served", "either", "local"
"""4xx, closed, nothing crosses; 200 and one request crosses; one of both; answered by the gateway itself."""


@dataclass
class Case:
    """A request, or several, and what may come of it."""

    name: str
    data: bytes
    want: str = REFUSED
    most: int = 1
    """Requests that may cross."""
    closes: bool = True
    """REFUSED: the connection is not to be used again."""
    check: Callable[[list[Seen]], str | None] = lambda seen: None
    statuses: tuple[int, ...] = ()
    warm: bytes = b""
    """A good request to send first, on a connection of its own: its head is then known."""


def absent(*names: bytes) -> Callable[[list[Seen]], str | None]:
    def check(seen: list[Seen]) -> str | None:
        for each in seen:
            there = {name for name, _ in each.fields()} & set(names)
            if there:
                return f"crossed: {sorted(there)}"
        return None

    return check


def body_is(body: bytes) -> Callable[[list[Seen]], str | None]:
    return lambda seen: None if not seen or seen[0].body == body else f"body became {seen[0].body[:60]!r}"
