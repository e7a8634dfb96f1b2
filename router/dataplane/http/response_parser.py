"""The head of a pod's answer: its status, the headers to pass on and how the end of the answer is found. Pure; knows
the framing rules of RFC 9112, no socket.

httptools judges the header lines; a status line or framing that two parsers could read differently is refused here.
Heads with the same bytes are parsed once.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

import httptools

from router.dataplane.http.head_cache import END, HeadCache, HeadLookup
from router.dataplane.http.header_rules import CHUNKED_LENGTH, ENDLESS, NO_LENGTH, RESPONSE, HeaderFields

NO_BODY: Final = 0
LENGTH: Final = 1
CHUNKED: Final = 2
UNTIL_CLOSE: Final = 3
"""How the end of an answer is found."""

MAX_HEAD_BYTES: Final = 65536
"""A longer head is refused."""

MAX_HEADERS: Final = 256
"""A head with more headers is refused."""

_STATUS_LINE: Final = re.compile(rb"HTTP/1\.([01]) ([1-5][0-9]{2})(?: [\t\x20-\x7e\x80-\xff]*)?")
_SWITCHING: Final = 101


class BadHead(ValueError):
    """The bytes are not the beginning of an HTTP/1.x answer."""


class ResponseHead(NamedTuple):
    """An answer's parsed head. Shared between answers with the same bytes, so it is never changed."""

    status: int
    framing: int
    """One of `NO_BODY`, `LENGTH`, `CHUNKED`, `UNTIL_CLOSE`."""
    keep: bool
    """The pod leaves the connection open."""
    sse: bool
    kept: list[bytes]
    """Headers to pass on, ready to be joined."""
    encoded: bool = False
    """The body is compressed: nothing can be read from it or added to it."""
    limited: bool = False
    """A header may name limits of the pod's own."""


_heads: Final[HeadCache[ResponseHead]] = HeadCache()


def memory() -> HeadLookup[ResponseHead]:
    """The head look-up of one connection, for `read_head`."""
    return HeadLookup(_heads)


def read_head(data: bytes, recall: HeadLookup[ResponseHead]) -> tuple[ResponseHead, int, int] | None:
    """Read a head that `recall` did not find in `data`: the head, the index just past it and the content-length (-1
    without one), which an answer without a body may have too. None while it is incomplete. Raises BadHead."""
    missed = recall.missed
    end = data.find(END) + 4 if missed is None else missed.end
    if end < 4:
        crlf_only = data.count(b"\n") == data.count(b"\r\n")
        if len(data) > MAX_HEAD_BYTES or not crlf_only or not b"HTTP/1.".startswith(data[:7]):
            raise BadHead("these bytes are not an HTTP/1.1 answer")
        return None
    head, length = _parse(data[:end])
    if missed is not None and length == missed.length:  # else `split` reads the length differently
        _heads.learn(missed.key, head)
    return head, end, length


def _parse(data: bytes) -> tuple[ResponseHead, int]:
    line = _STATUS_LINE.fullmatch(data, 0, data.find(b"\r\n"))
    if line is None or len(data) > MAX_HEAD_BYTES or data.count(b"\n") - 2 > MAX_HEADERS:
        raise BadHead("these bytes are not an HTTP/1.1 answer with a head of ordinary size")
    http11, status = line[1] == b"1", int(line[2])
    if status == _SWITCHING:
        raise BadHead("it switches to a protocol that was not asked for")
    fields = HeaderFields(RESPONSE)
    try:
        httptools.HttpResponseParser(fields).feed_data(data)
    except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
        raise BadHead(str(error)) from None
    if not fields.whole:
        raise BadHead("its headers have no end")
    framing, length = _framing(status, http11, fields)
    keep = fields.stays_open(http11) and framing != UNTIL_CLOSE
    header_map = fields.header_map
    sse = header_map.get(b"content-type", b"").lower().startswith(b"text/event-stream")
    encoded = header_map.get(b"content-encoding", b"identity").lower() not in (b"identity", b"")
    kept = fields.lines()
    limited = any(b"ratelimit" in lines for lines in kept)
    return ResponseHead(status, framing, keep, sse, kept, encoded, limited), length


def _framing(status: int, http11: bool, fields: HeaderFields) -> tuple[int, int]:
    """How the answer ends, and its content-length."""
    try:
        length = fields.length()
    except ValueError as error:
        raise BadHead(str(error)) from None
    if length == ENDLESS:
        raise BadHead("its Content-Length is more than any")
    if length == CHUNKED_LENGTH and not http11:
        raise BadHead("HTTP/1.0 has no Transfer-Encoding")
    if status < 200 or status in (204, 304):
        return NO_BODY, length if status == 304 else NO_LENGTH
    if length == CHUNKED_LENGTH:
        return CHUNKED, NO_LENGTH
    return (UNTIL_CLOSE, NO_LENGTH) if length == NO_LENGTH else (LENGTH, length)
