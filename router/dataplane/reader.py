"""Stage 1a: bytes -> requests. httptools' callbacks and the limits on what one request may make us hold.

Knows HTTP/1.x, not the connection: it tells its `Owner` when a head is whole, when body bytes come and when the
request is. What cannot be a request raises a GatewayError out of `feed`.
"""

from __future__ import annotations

import logging
from typing import Protocol

import httptools

from router.dataplane.headers import NOTE, REQUEST, Fields
from router.errors import BadFraming, BodyTooLarge, GatewayError, HeadersTooLarge, InternalError
from router.settings import Limits

IDLE, HEAD, BODY = range(3)
"""What is being read: nothing yet, headers, a body."""

_CONTINUE_EXPECTED = b"100-continue"

_log = logging.getLogger("turnout.edge")


class Owner(Protocol):
    """The connection whose bytes are read."""

    def head_begun(self) -> None:
        """The first byte of a request came."""

    def body_expected(self, wants_continue: bool, /) -> None:
        """The head is whole and a body follows."""

    def body_grew(self, total_bytes: int, /) -> None:
        """So much of the body is here."""

    def received(self, reader: RequestReader, body: bytes, /) -> None:
        """The request is whole; what `reader` holds of it is valid during this call."""


class RequestReader:
    """Reads the requests of one connection, one after the other."""

    __slots__ = (
        "_body",
        "_body_bytes",
        "_head_bytes",
        "_limits",
        "_owner",
        "_parser",
        "_upgrading",
        "fields",
        "http11",
        "keep_alive",
        "method",
        "stage",
        "target",
    )

    def __init__(self, owner: Owner, limits: Limits) -> None:
        # connection
        self._owner = owner
        self._limits = limits
        self._parser = httptools.HttpRequestParser(self)
        self._begin()

    def _begin(self) -> None:
        # the request being read
        self.stage = IDLE
        self.method = b""
        self.target = b""
        self.http11 = True
        self.keep_alive = True
        self.fields = Fields(REQUEST)
        self._upgrading = False
        self._head_bytes = 0
        self._body: list[bytes] = []
        self._body_bytes = 0

    def feed(self, data: bytes) -> None:
        """Read on. Raises GatewayError when these bytes are not a request, or too much of one."""
        in_head = self.stage == HEAD
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self._read_on_without_upgrade(data[upgrade.args[0] :])
        except httptools.HttpParserError as error:
            raise _as_refusal(error) from None
        if in_head and self.stage == HEAD:  # a header that never ends reaches no callback
            self._head_bytes += len(data)
            self._check_head(self._head_bytes)

    # httptools' callbacks, in wire order

    def on_message_begin(self) -> None:
        """A request's first byte."""
        self.stage = HEAD
        self._owner.head_begun()

    def on_url(self, url: bytes) -> None:
        """Part of the request target."""
        self.target += url
        self._check_head(len(self.target))

    def on_header(self, name: bytes, value: bytes) -> None:
        """One header."""
        fields = self.fields
        fields.add(name, value)
        if fields.size > self._limits.max_header_bytes:
            self._check_head(fields.size)

    def on_headers_complete(self) -> None:
        """The head is whole: what can be refused without its body is refused here."""
        parser = self._parser
        self.stage = BODY
        self.method = parser.get_method()
        self.http11 = parser.get_http_version() == "1.1"
        self.keep_alive = parser.should_keep_alive()
        if parser.should_upgrade():
            self._upgrading = True
            return
        noted = self.fields.noted
        if (coding := noted.get(b"transfer-encoding")) is not None and coding.strip().lower() != b"chunked":
            raise BadFraming("Transfer-Encoding may only be 'chunked' here: send the body plain or chunked.")
        length = int(noted.get(b"content-length", b"0"))
        if length > self._limits.max_body_bytes:
            raise self._too_much_body()
        if length or coding is not None:
            self._owner.body_expected(self.http11 and noted.get(b"expect", b"").lower() == _CONTINUE_EXPECTED)
        if b"connection" in noted:
            self.fields.drop_nominated()

    def on_body(self, body: bytes) -> None:
        """Part of the body, its chunk framing taken off."""
        self._body.append(body)
        self._body_bytes += len(body)
        if self._body_bytes > self._limits.max_body_bytes:
            raise self._too_much_body()
        self._owner.body_grew(self._body_bytes)

    def on_message_complete(self) -> None:
        """The request is whole."""
        if self._upgrading:
            return
        body = self._body
        self._owner.received(self, body[0] if len(body) == 1 else b"".join(body))
        self._begin()

    def _read_on_without_upgrade(self, rest: bytes) -> None:
        """Ignore an `Upgrade` offer (h2c from Java's client, say): llhttp stops at it, a new parser reads the body."""
        head = [self.method, b" ", self.target, b" HTTP/1.1\r\n", *self.fields.kept]
        for name, value in self.fields.noted.items():
            if REQUEST[name] == NOTE and name != b"connection":
                head += (name, b": ", value, b"\r\n")
        self._parser = httptools.HttpRequestParser(self)
        self._begin()
        self.feed(b"".join(head) + b"\r\n" + rest)

    def _check_head(self, size: int) -> None:
        if size > self._limits.max_header_bytes:
            raise HeadersTooLarge(f"The request's headers exceed {self._limits.max_header_bytes} bytes.")

    def _too_much_body(self) -> BodyTooLarge:
        return BodyTooLarge(f"The request's body exceeds {self._limits.max_body_bytes} bytes.")


def _as_refusal(error: httptools.HttpParserError) -> GatewayError:
    cause = error.__context__
    if isinstance(cause, GatewayError):
        return cause
    if cause is not None and isinstance(error, httptools.HttpParserCallbackError):
        _log.error("a request's head could not be taken in", exc_info=cause)
        return InternalError("The gateway failed to read this request; its log says why.")
    return BadFraming(f"This is not HTTP/1.1: {error}.")
