"""Stage 1a: bytes -> requests. httptools' callbacks and the limits on the memory that one request may take.

Knows HTTP/1.x, not the connection: it calls its `ParserOwner` when a head is whole, when body bytes come and when the
request is whole. `feed` raises a GatewayError for bytes that cannot be a request.
"""

from __future__ import annotations

import logging
from typing import Final, NamedTuple, Protocol

import httptools

from router.dataplane.http.head_cache import HeadCache, HeadLookup, Key
from router.dataplane.http.header_rules import READ, REQUEST, HeaderFields
from router.errors import BadFraming, BodyTooLarge, GatewayError, HeadersTooLarge, InternalError
from router.settings import Limits

IDLE: Final = 0
HEAD: Final = 1
BODY: Final = 2
"""What is being read: nothing yet, headers, a body."""

MAX_PARTS: Final = 4096
"""Parts of a body that are kept before they are joined into one."""

_CONTINUE_EXPECTED: Final = b"100-continue"

_log = logging.getLogger("turnout.edge")


class RequestHead(NamedTuple):
    """A request's parsed head. Shared between requests with the same bytes, so it is never changed."""

    method: bytes
    target: bytes
    http11: bool
    keep_alive: bool
    kept: list[bytes]
    """Headers to pass on, ready to be joined."""
    header_map: dict[bytes, bytes]
    """Headers the gateway reads itself, by lower-case name."""


NO_HEAD = RequestHead(b"", b"", True, False, [], {})
"""The head of a request whose head is not whole yet."""

_heads: Final[HeadCache[RequestHead]] = HeadCache()
"""Shared by all connections of this process: the connections of one client send the same heads."""


class ParserOwner(Protocol):
    """The connection whose bytes are read."""

    def head_begun(self) -> None:
        """The first byte of a request came."""

    def body_expected(self, wants_continue: bool, /) -> None:
        """The head is whole and a body follows. `wants_continue`: the client waits for `100 Continue` before it."""

    def body_grew(self, total_bytes: int, /) -> None:
        """`total_bytes` of the body have come so far."""

    def received(self, head: RequestHead, body: bytes, /) -> None:
        """The request is whole."""


class RequestParser:
    """Reads the requests of one connection, one after the other."""

    __slots__ = (
        "_body",
        "_body_bytes",
        "_fields",
        "_head",
        "_head_bytes",
        "_joined",
        "_key",
        "_length",
        "_limits",
        "_missing",
        "_owner",
        "_parser",
        "_recall",
        "_target",
        "_upgrading",
        "stage",
    )

    def __init__(self, owner: ParserOwner, limits: Limits) -> None:
        # connection
        self._owner = owner
        self._limits = limits
        self._parser = httptools.HttpRequestParser(self)
        self._recall = HeadLookup(_heads)
        self._begin()

    def _begin(self) -> None:
        # the request being read
        self.stage = IDLE
        self._head = NO_HEAD
        self._body: list[bytes] = []
        self._joined = 0
        """How many parts at the front of `_body` are joined ones."""
        self._body_bytes = 0
        self._missing = 0
        """Body bytes still to come after a head from the cache; 0 while httptools reads."""
        # its head, as httptools reads it
        self._target = b""
        self._fields = HeaderFields(REQUEST)
        self._head_bytes = 0
        self._upgrading = False
        self._key: Key | None = None
        self._length = -1

    def feed(self, data: bytes) -> None:
        """Read further bytes of the connection. Raises GatewayError when they are not a request or exceed a limit."""
        while data:
            if self._missing:
                data = self._read_body(data)
            elif self.stage == IDLE and (found := self._recall.recall(data)) is not None:
                known, end, length = found
                stop = end + length if length > 0 else end
                if length > self._limits.max_body_bytes:
                    raise self._too_much_body()
                if stop <= len(data):  # the usual case: a whole request in one read
                    self._owner.received(known, data[end:stop])
                    data = data[stop:]
                else:
                    self._head, self._missing = known, length
                    data = self._read_body(data[end:])
            else:
                if self.stage == IDLE and (missed := self._recall.missed) is not None:
                    self._key, self._length = missed.key, missed.length
                self._parse(data)
                return

    # A head seen before

    def _read_body(self, data: bytes) -> bytes:
        """Take the bytes that belong to this body; returns the rest."""
        missing = self._missing
        here = len(data)
        if here >= missing:
            self._body.append(data if here == missing else data[:missing])
            self._complete()
            return data[missing:]
        if self.stage != BODY:
            self.stage = BODY
            self._owner.body_expected(False)
        self._body.append(data)
        self._body_bytes += here
        self._missing = missing - here
        self._owner.body_grew(self._body_bytes)
        return b""

    # A head that is new

    def _parse(self, data: bytes) -> None:
        fields, body_bytes = self._fields, self._body_bytes
        offered_at: int | None = None
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            offered_at = upgrade.args[0]
        except httptools.HttpParserError as error:
            raise _as_refusal(error) from None
        if offered_at is not None:
            # Not from inside the handler: a later exception would have this one as the context `_as_refusal` reads.
            self._read_on_without_upgrade(data[offered_at:])
            return
        if fields is self._fields and body_bytes == self._body_bytes:
            self._head_bytes += len(data)  # no callback comes for a header or trailer that never ends
            self._check_head(self._head_bytes)

    # httptools' callbacks, in wire order

    def on_message_begin(self) -> None:
        """A request's first byte."""
        self.stage = HEAD
        self._owner.head_begun()

    def on_url(self, url: bytes) -> None:
        """Part of the request target."""
        self._target += url
        self._check_head(len(self._target))

    def on_header(self, name: bytes, value: bytes) -> None:
        """One header."""
        if self.stage == BODY:
            return  # a trailer, which must not be taken for a header (RFC 9110, 6.5.1)
        fields = self._fields
        fields.add(name, value)
        if fields.size > self._limits.max_header_bytes:
            self._check_head(fields.size)

    def on_headers_complete(self) -> None:
        """The head is whole: refuse here what needs no look at the body."""
        parser, fields = self._parser, self._fields
        self.stage = BODY
        http11 = parser.get_http_version() == "1.1"
        if b"connection" in fields.header_map:
            fields.drop_nominated()
        self._head = RequestHead(
            parser.get_method(),
            _origin_form(self._target),
            http11,
            parser.should_keep_alive(),
            fields.kept,
            fields.header_map,
        )
        if parser.should_upgrade():
            if self._head.method == b"CONNECT":  # its method is the upgrade: it cannot be ignored
                raise BadFraming("This gateway is no proxy: it serves no CONNECT.")
            self._upgrading = True
            return
        coding, expect = fields.header_map.get(b"transfer-encoding"), fields.header_map.get(b"expect")
        if coding is not None and coding.strip().lower() != b"chunked":
            raise BadFraming("Transfer-Encoding may only be 'chunked' here: send the body plain or chunked.")
        length = int(fields.header_map.get(b"content-length", b"-1"))
        if length > self._limits.max_body_bytes:
            raise self._too_much_body()
        if self._key is not None and coding is None and expect is None and length == self._length:
            _heads.learn(self._key, self._head._replace(kept=[b"".join(fields.kept)]))
        self._key = None
        if length > 0 or coding is not None:
            self._owner.body_expected(http11 and expect is not None and expect.lower() == _CONTINUE_EXPECTED)

    def on_body(self, body: bytes) -> None:
        """Part of the body, without chunk framing."""
        parts = self._body
        parts.append(body)
        if len(parts) - self._joined > MAX_PARTS:  # tiny chunks: one object each takes twenty times their bytes
            parts[self._joined :] = [b"".join(parts[self._joined :])]
            self._joined += 1
        self._head_bytes = 0
        self._body_bytes += len(body)
        if self._body_bytes > self._limits.max_body_bytes:
            raise self._too_much_body()
        self._owner.body_grew(self._body_bytes)

    def on_message_complete(self) -> None:
        """The request is whole."""
        if not self._upgrading:
            self._complete()

    def _complete(self) -> None:
        head, body = self._head, self._body
        self._begin()
        self._owner.received(head, body[0] if len(body) == 1 else b"".join(body))

    def _read_on_without_upgrade(self, rest: bytes) -> None:
        """Ignore an `Upgrade` offer (h2c from Java's client, say): llhttp stops there, a new parser reads the body."""
        offer = self._head
        version = b" HTTP/1.1\r\n" if offer.http11 else b" HTTP/1.0\r\n"
        stay = b"keep-alive" if offer.keep_alive else b"close"
        head = [offer.method, b" ", offer.target, version, b"connection: ", stay, b"\r\n", *offer.kept]
        for name, value in offer.header_map.items():
            if REQUEST[name] == READ and name != b"connection":
                head += (name, b": ", value, b"\r\n")
        self._parser = httptools.HttpRequestParser(self)
        self._begin()
        self.feed(b"".join(head) + b"\r\n" + rest)

    def _check_head(self, size: int) -> None:
        if size > self._limits.max_header_bytes:
            raise HeadersTooLarge(f"The request's headers exceed {self._limits.max_header_bytes} bytes.")

    def _too_much_body(self) -> BodyTooLarge:
        return BodyTooLarge(f"The request's body exceeds {self._limits.max_body_bytes} bytes.")


def _origin_form(target: bytes) -> bytes:
    """The path and query of a target that may be in absolute form, which servers must accept (RFC 9112, 3.2.2)."""
    if target.startswith(b"/") or b"://" not in target:
        return target
    path = target.partition(b"://")[2].partition(b"/")[2]
    return b"/" + path


def _as_refusal(error: httptools.HttpParserError) -> GatewayError:
    cause = error.__context__
    if isinstance(cause, GatewayError):
        return cause
    if cause is not None and isinstance(error, httptools.HttpParserCallbackError):
        _log.error("a request's head could not be taken in", exc_info=cause)
        return InternalError("The gateway failed to read this request; its log says why.")
    return BadFraming(f"This is not HTTP/1.1: {error}.")
