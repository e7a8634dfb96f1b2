"""Stage 1a: bytes -> requests, whatever pieces they come in, and the limits on the memory that one request may take.

Knows HTTP/1.x, not the connection: it calls its `ParserOwner` when a head is whole, when body bytes come and when the
request is whole. `feed` raises a GatewayError for bytes that cannot be a request or exceed a limit. A head is gathered
until its blank line has come and is then read at once, by `HeadCache` or by `parse_head`; a body is framed here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Protocol

from router.dataplane.http.buffer_budget import UNCOUNTED, BufferBudget, HeldBytes
from router.dataplane.http.chunked import BadChunk, ChunkScanner
from router.dataplane.http.head_cache import END, UNSEEN, HeadCache, HeadLookup
from router.dataplane.http.header_rules import CHUNKED_LENGTH
from router.dataplane.http.request_head import NO_HEAD, RequestHead, bad_start, may_begin, parse_head, too_many_headers
from router.errors import BadFraming, BodyTooLarge, GatewayError, HeadersTooLarge
from router.settings import Limits

IDLE: Final = 0
HEAD: Final = 1
BODY: Final = 2
"""What is being read: nothing yet, headers, a body."""

MAX_PARTS: Final = 4096
"""Parts of a body that are kept before they are joined into one."""

PART: Final = 16 << 10
"""Bytes behind a request in the same read that are parsed at a time. Each request copies what is behind it: without
parts, the cost of a read of small requests would grow with its square."""

_CONTINUE_EXPECTED: Final = b"100-continue"

_heads: Final[HeadCache[RequestHead]] = HeadCache()
"""Shared by all connections of this process: the connections of one client send the same heads."""


Admit = Callable[[RequestHead], object]
"""Raises GatewayError for a client that may not send such a request, and so need not send its body."""


class ParserOwner(Protocol):
    """The connection whose bytes are read."""

    def head_begun(self) -> None:
        """A part of a head came, and not the whole."""

    def body_expected(self, wants_continue: bool, /) -> None:
        """The head is whole and its body is not. `wants_continue`: the client waits for `100 Continue` before it."""

    def body_grew(self, total_bytes: int, /) -> None:
        """`total_bytes` of the body have come so far."""

    def received(self, head: RequestHead, body: bytes, /) -> None:
        """The request is whole."""


class RequestParser:
    """Reads the requests of one connection, one after the other."""

    __slots__ = (
        "_admit",
        "_blank_bytes",
        "_body",
        "_body_bytes",
        "_chunks",
        "_head",
        "_head_bytes",
        "_held",
        "_joined",
        "_limits",
        "_missing",
        "_owner",
        "_recall",
        "_rest",
        "_rest_bytes",
        "stage",
    )

    def __init__(
        self, owner: ParserOwner, limits: Limits, held: HeldBytes | None = None, admit: Admit | None = None
    ) -> None:
        """`admit` is called with a head whose body is still to come."""
        # connection
        self._admit = admit
        self._held = held or HeldBytes(BufferBudget(0))
        self._owner = owner
        self._limits = limits
        self._recall = HeadLookup(_heads, UNSEEN)
        self._blank_bytes = 0
        """Blank lines since the last request."""
        self._rest: list[bytes] = []
        """The beginning of a head, or of a line of chunk framing."""
        self._rest_bytes = 0
        self._begin()

    def _begin(self) -> None:
        # the request being read
        self.stage = IDLE
        self._head = NO_HEAD
        self._head_bytes = 0
        """Of a head that is not shared with other requests."""
        self._body: list[bytes] = []
        self._joined = 0
        """How many parts at the front of `_body` are joined ones."""
        self._body_bytes = 0
        self._missing = 0
        """Bytes of a body with a length that are still to come."""
        self._chunks: ChunkScanner | None = None

    def expect_new(self) -> None:
        """See `HeadLookup`."""
        self._recall.expect_new()

    def feed(self, data: bytes) -> None:
        """Read further bytes of the connection. Raises GatewayError when they are not a request or exceed a limit."""
        while data:
            if self.stage != IDLE:
                data = self._go_on(data)
            elif (found := self._recall.recall(data)) is not None:
                known, end, length = found
                stop = end + length if length > 0 else end
                if length > self._limits.max_body_bytes:
                    raise self._too_much_body(known)
                if stop <= len(data):  # the usual case: a whole request in one read
                    if length > UNCOUNTED:
                        self._held.read(length)
                    self._owner.received(known, data[end:stop])
                    data = data[stop:]
                    if len(data) > PART:
                        self._feed_parts(data)
                        return
                else:
                    data = self._expect_body(known, length, data[end:])
            else:
                data = self._new_head(data)

    def _go_on(self, data: bytes) -> bytes:
        """Take the bytes that belong to the request being read; returns the rest."""
        if self.stage == HEAD:
            return self._gather(data)
        return self._read_body(data) if self._chunks is None else self._read_chunks(data, self._chunks)

    # A head that is new

    def _new_head(self, data: bytes) -> bytes:
        blank = len(data) - len(data.lstrip(b"\r\n"))
        if blank:
            return self._skip_blank_lines(data, blank)
        missed = self._recall.missed
        end = data.find(END) + 4 if missed is None else missed.end
        if end < 4:
            return self._gather(data)
        if end > self._limits.max_header_bytes:
            raise self._too_large_head()
        head, length = parse_head(data[:end], self._limits)
        if length > self._limits.max_body_bytes:
            raise self._too_much_body(head)
        if missed is not None and missed.length == length and b"expect" not in head.header_map:
            _heads.learn(missed.key, head)
        self._blank_bytes = 0
        if length == CHUNKED_LENGTH or length > len(data) - end:
            self._head_bytes = end
            return self._expect_body(head, length, data[end:])
        stop = end + max(0, length)
        if stop > UNCOUNTED:
            self._held.read(stop)
        self._owner.received(head, data[end:stop])
        rest = data[stop:]
        return rest if len(rest) <= PART else self._feed_parts(rest)

    def _feed_parts(self, data: bytes) -> bytes:
        """Read what came behind a request in the same read."""
        for at in range(0, len(data), PART):
            self.feed(data[at : at + PART])
        return b""

    def _skip_blank_lines(self, data: bytes, blank: int) -> bytes:
        """Robust servers take blank lines before a request (RFC 9112, 2.2), of CRLF only and not without end."""
        self._blank_bytes += blank
        if self._blank_bytes > self._limits.max_header_bytes:
            raise self._too_large_head()
        even = blank & ~1
        if data[:even] != b"\r\n" * (even // 2) or (even < blank and data != data[:even] + b"\r"):
            raise BadFraming("This is not HTTP/1.1: a line ends with CRLF.")
        return data[even:] if even == blank else self._gather(data[even:])

    def _gather(self, data: bytes) -> bytes:
        """Keep the beginning of a head until its end has come; returns the whole head then, with what follows it."""
        if self.stage == IDLE:
            self.stage = HEAD
            self._owner.head_begun()
        self._rest.append(data)
        self._rest_bytes += len(data)
        if b"\n" in data or b"\r" in data or len(self._rest) == 1:
            joined = b"".join(self._rest)
            if END in joined or joined.startswith(b"\r\n"):
                self._drop_rest()
                self.stage = IDLE
                return joined
            self._check_beginning(joined)
            self._rest = [joined]
        if self._rest_bytes > self._limits.max_header_bytes:
            raise self._too_large_head()
        self._held.reading(self._rest_bytes)
        return b""

    def _check_beginning(self, part: bytes) -> None:
        """Refuse at once what cannot become a head, so that its sender need not wait for the timeout."""
        lines = part.count(b"\r\n")
        if part.count(b"\n") != lines or part.count(b"\r", 0, -1) != lines:
            raise BadFraming("This is not HTTP/1.1: a line ends with CRLF.")
        if not (may_begin(part[: part.find(b"\r\n")]) if lines else 65 <= part[0] <= 90 or part == b"\r"):
            raise bad_start()
        if lines - 1 > self._limits.max_headers:
            raise too_many_headers(self._limits)

    def _drop_rest(self) -> None:
        self._rest = []
        self._rest_bytes = 0

    # A body

    def _expect_body(self, head: RequestHead, length: int, data: bytes) -> bytes:
        """A head is whole and `data`, which follows it, does not have all of its body."""
        if self._admit is not None:
            try:
                self._admit(head)
            except GatewayError as error:
                raise _of(head, error) from None
        self._head, self.stage = head, BODY
        if length == CHUNKED_LENGTH:
            self._chunks = ChunkScanner()
        else:
            self._missing = length
            self._held.expect(length)
        waits = not data and head.http11 and head.header_map.get(b"expect", b"").lower() == _CONTINUE_EXPECTED
        self._owner.body_expected(waits)
        return self._go_on(data) if data else data

    def _read_body(self, data: bytes) -> bytes:
        missing = self._missing
        here = len(data)
        if here >= missing:
            self._keep(data if here == missing else data[:missing])
            self._complete()
            return data[missing:]
        self._missing = missing - here
        self._keep(data)
        self._owner.body_grew(self._body_bytes)
        return b""

    def _read_chunks(self, data: bytes, chunks: ChunkScanner) -> bytes:
        if self._rest:
            data = self._rest[0] + data
            self._drop_rest()
        payload: list[bytes] = []
        try:
            end = chunks.feed(data, payload)
        except BadChunk as error:
            raise _of(self._head, BadFraming(f"The body's chunk framing is broken: {error}.")) from None
        if payload:
            self._keep(payload[0] if len(payload) == 1 else b"".join(payload))
        if self._body_bytes + max(0, chunks.left - 2) > self._limits.max_body_bytes:
            raise self._too_much_body(self._head)
        if end >= 0:
            self._complete()
            return data[end:]
        if chunks.settled < len(data):
            self._rest = [data[chunks.settled :]]
        self._owner.body_grew(self._body_bytes)
        return b""

    def _keep(self, part: bytes) -> None:
        parts = self._body
        parts.append(part)
        self._body_bytes += len(part)
        self._held.reading(self._head_bytes + self._body_bytes)
        if len(parts) - self._joined > MAX_PARTS:  # tiny parts: one object each takes twenty times their bytes
            parts[self._joined :] = [b"".join(parts[self._joined :])]
            self._joined += 1

    def _complete(self) -> None:
        head, body = self._head, self._body
        self._held.read(self._head_bytes + self._body_bytes)
        self._begin()
        self._owner.received(head, body[0] if len(body) == 1 else b"".join(body))

    # Refusals

    def _too_large_head(self) -> HeadersTooLarge:
        return HeadersTooLarge(f"The request's headers exceed {self._limits.max_header_bytes} bytes.")

    def _too_much_body(self, head: RequestHead) -> GatewayError:
        return _of(head, BodyTooLarge(f"The request's body exceeds {self._limits.max_body_bytes} bytes."))


def _of(head: RequestHead, error: GatewayError) -> GatewayError:
    """The refusal of a request whose head was read: it has the form that the request's client reads."""
    error.path, error.origin = head.target, head.header_map.get(b"origin", b"")
    return error
