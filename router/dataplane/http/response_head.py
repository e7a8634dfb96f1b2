"""The head of a pod's answer: bytes -> `ResponseHead`, by httptools, or from memory where the same bytes came before.
Pure; knows the framing rules of RFC 9112, 6.3, no socket.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import httptools

from router.dataplane.http.head_cache import HeadCache, HeadLookup
from router.dataplane.http.header_rules import RESPONSE, HeaderFields

NO_BODY: Final = 0
LENGTH: Final = 1
CHUNKED: Final = 2
UNTIL_CLOSE: Final = 3
"""How the end of an answer is found."""

MAX_HEAD_BYTES: Final = 65536


class BadHead(ValueError):
    """Bytes that do not begin an HTTP/1.x answer."""


class ResponseHead(NamedTuple):
    """An answer's head, understood. Shared between answers with the same bytes, so it is never changed."""

    status: int
    framing: int
    keep: bool
    """The pod leaves the connection open."""
    sse: bool
    kept: list[bytes]
    """Headers to pass on, ready to be joined."""


class ParsedHead(NamedTuple):
    """A head that is complete."""

    head: ResponseHead
    end: int
    """Index just past it."""
    length: int
    """Body bytes for LENGTH; also what a body-less answer says it would be; -1 where it has no length."""


_heads: Final[HeadCache[ResponseHead]] = HeadCache()

_new: Final = tuple.__new__


def memory() -> HeadLookup[ResponseHead]:
    """For a connection to keep, and to give to `begin`."""
    return HeadLookup(_heads)


def begin(data: bytes, recall: HeadLookup[ResponseHead]) -> ParsedHead | None:
    """Read the head that `data` begins with; None while it is incomplete. Raises BadHead."""
    known = recall.recall(data)
    if known is not None:
        return _new(ParsedHead, known)
    if (missed := recall.missed) is not None:
        head, length = _parse(data[: missed.end])
        if length == missed.length:  # else it is written in a way that `split` does not see
            _heads.learn(missed.key, head._replace(kept=[b"".join(head.kept)]))
        return ParsedHead(head, missed.end, length)
    end = data.find(b"\r\n\r\n") + 4
    if end >= 4:
        head, length = _parse(data[:end])
        return ParsedHead(head, end, length)
    if len(data) > MAX_HEAD_BYTES or not b"HTTP/1.".startswith(data[:7]):
        raise BadHead("these bytes are not an HTTP/1.1 answer")
    return None


class _Parsing:
    """httptools' callbacks for one head."""

    __slots__ = ("keep", "on_header", "parser")

    def __init__(self, fields: HeaderFields) -> None:
        self.on_header = fields.add
        self.keep = False
        self.parser: httptools.HttpResponseParser | None = None

    def on_headers_complete(self) -> None:
        """Later is too late: an answer of no bytes is over then, and httptools takes its connection for closed."""
        if self.parser is not None:
            self.keep = self.parser.should_keep_alive()


def _parse(data: bytes) -> tuple[ResponseHead, int]:
    fields = HeaderFields(RESPONSE)
    parsing = _Parsing(fields)
    parser = parsing.parser = httptools.HttpResponseParser(parsing)
    try:
        parser.feed_data(data)
    except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
        raise BadHead(str(error)) from None
    finally:
        parsing.parser = None  # or it would keep itself alive
    header_map = fields.header_map
    if b"connection" in header_map:
        fields.drop_nominated()
    status = parser.get_status_code()
    framing = _framing(status, header_map)
    keep = parsing.keep and framing != UNTIL_CLOSE
    sse = header_map.get(b"content-type", b"").startswith(b"text/event-stream")
    return ResponseHead(status, framing, keep, sse, fields.kept), int(header_map.get(b"content-length", b"-1"))


def _framing(status: int, header_map: dict[bytes, bytes]) -> int:
    if status < 200 or status in (204, 304):
        return NO_BODY
    coding = header_map.get(b"transfer-encoding")
    if coding is not None:
        if coding.lower() != b"chunked":
            raise BadHead(f"its transfer-encoding is {coding[:32]!r}, not 'chunked'")
        return CHUNKED
    return LENGTH if b"content-length" in header_map else UNTIL_CLOSE
