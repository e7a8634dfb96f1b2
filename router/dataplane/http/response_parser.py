"""The bytes of a pod's answer: its head, where it ends and where it may be cut. Pure; knows the framing rules of
RFC 9112, no socket.

httptools parses a head into a `ResponseHead`, unless the same bytes came before. Chunk framing is passed on as it came;
the scanner only finds where the message ends and which positions are safe: those right after a chunk that ends an SSE
event. An SSE reader cannot use the bytes past the last safe position yet, so holding them back delays nothing, and when
a pod dies the client is at the end of an event, where an error event can follow.
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
"""A head that is still incomplete after this many bytes is refused."""


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


class ParsedHead(NamedTuple):
    """A whole head at the beginning of some bytes."""

    head: ResponseHead
    end: int
    """Index just past the head."""
    length: int
    """The content-length, which an answer without a body may have too; -1 without one."""


_heads: Final[HeadCache[ResponseHead]] = HeadCache()

_new: Final = tuple.__new__


def memory() -> HeadLookup[ResponseHead]:
    """The head look-up of one connection, for `begin`."""
    return HeadLookup(_heads)


def begin(data: bytes, recall: HeadLookup[ResponseHead]) -> ParsedHead | None:
    """Read the head that `data` begins with; None while it is incomplete. Raises BadHead."""
    known = recall.recall(data)
    if known is not None:
        return _new(ParsedHead, known)
    if (missed := recall.missed) is not None:
        head, length = _parse(data[: missed.end])
        if length == missed.length:  # else `split` reads the length differently
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
        """Read keep-alive now: after an answer without a body, httptools reports its connection as closed."""
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


_HEX: Final = frozenset(b"0123456789abcdefABCDEF")
_EVENT_ENDS: Final = (b"\n\n\r\n", b"\r\n\r\n\r\n")
_LONGEST_END: Final = max(map(len, _EVENT_ENDS))
_MAX_LINE: Final = 4096


class BadChunk(ValueError):
    """The bytes are not chunked framing."""


_SIZES: Final = {form % size: size for size in range(16, 4096) for form in (b"%x", b"%X")}
"""Size lines of two or three digits, as events of one token have, and their values: a look-up saves 1.0 us a token."""


class ChunkScanner:
    """Follows chunked framing (RFC 9112, 7.1) without copying or decoding the chunks."""

    __slots__ = ("_tail", "left", "line", "safe", "trailing")

    def __init__(self) -> None:
        self.left = 0
        """Bytes of the current chunk still to come, its CRLF included."""
        self.line = b""
        """The part of a size or trailer line that has come."""
        self.trailing = False
        """Whether the last chunk has come; trailers may follow."""
        self.safe = 0
        """After `feed`: how many of its bytes end with a chunk that ends an SSE event."""
        self._tail = b""
        """The last payload bytes since the last safe position, for an event's end that comes in several reads."""

    def feed(self, data: bytes) -> int:
        """Read further bytes. Returns the index just past the message's end, or -1 before it. Raises BadChunk."""
        at, size = 0, len(data)
        if size > 20 and not self.left and not self.line and not self.trailing:
            # One whole chunk with one whole event, as engines send for each token. Bytes are compared one by one:
            # compiled, a single `find` costs as much as all of this.
            eol = 3 if data[3] == 13 else 2
            if (
                data[eol] == 13
                and data[eol + 1] == 10
                and eol + 4 + _SIZES.get(data[:eol], size) == size
                and data.endswith(b"\n\n\r\n")
            ):
                self.safe = size
                self._tail = b""
                return -1
        self.safe = 0
        while at < size:
            if self.left:
                end = at + self.left
                if end > size:
                    self.left = end - size
                    self._tail = (self._tail + data[at:])[-_LONGEST_END:]
                    return -1
                if data[end - 1] != 10:
                    raise BadChunk("a chunk is longer than it says")
                if data.endswith(_EVENT_ENDS, at, end) or self._ends_here(data[at:end]):
                    self.safe = end
                    self._tail = b""
                at, self.left = end, 0
                continue
            eol = data.find(b"\n", at)
            if eol < 0:
                self._keep(data[at:])
                return -1
            line = (self.line + data[at:eol]).rstrip(b"\r")
            self.line = b""
            at = eol + 1
            if self.trailing:
                if not line:
                    return at
            else:
                self._size(line)
        return -1

    def _ends_here(self, rest: bytes) -> bool:
        """Whether a chunk's `rest`, its CRLF included, ends an event that began in earlier chunks or reads."""
        seen = self._tail + rest[-_LONGEST_END:]
        self._tail = seen[:-2][-_LONGEST_END:]
        return seen.endswith(_EVENT_ENDS)

    def _size(self, line: bytes) -> None:
        digits = line.partition(b";")[0].rstrip(b" \t")
        if not digits or len(digits) > 15 or not _HEX.issuperset(digits):
            raise BadChunk(f"not a chunk size: {line[:32]!r}")
        length = int(digits, 16)
        if length:
            self.left = length + 2
        else:
            self.trailing = True

    def _keep(self, part: bytes) -> None:
        self.line += part
        if len(self.line) > _MAX_LINE:
            raise BadChunk("a chunk header without an end")


def payloads(scanner: ChunkScanner, data: bytes) -> tuple[list[bytes], int]:
    """The chunks' contents in `data`, for an HTTP/1.0 client, and what `feed` would return. Raises BadChunk."""
    out: list[bytes] = []
    at = 0
    while at < len(data):
        if scanner.left:
            whole = scanner.left
            piece = data[at : at + whole]
            scanner.left = whole - len(piece)
            keep = len(piece) - max(0, 2 - scanner.left)
            if keep > 0:
                out.append(piece[:keep])
            at += len(piece)
            continue
        eol = data.find(b"\n", at)
        upto = eol + 1 if eol >= 0 else len(data)
        if scanner.feed(data[at:upto]) >= 0:
            return out, upto
        at = upto
    return out, -1


def events_end(payload: bytes) -> int:
    """The position just past the last SSE event that ends in `payload`; 0 where none does."""
    end = payload.rfind(b"\n\n") + 2
    crlf_end = payload.rfind(b"\r\n\r\n") + 4
    return max(end if end > 1 else 0, crlf_end if crlf_end > 3 else 0)
