"""Stage 1: a client connection. Bytes in, `Exchange`s out in order; answers back with backpressure.

Knows HTTP/1.x and its limits, nothing of models, pools or pods. Two lifetimes: what belongs to the connection is set
in `__init__`, what belongs to the request being read in `_begin`; a request that was read lives on as an `Exchange`.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol, cast

import httptools

from router.dataplane import answers
from router.dataplane.exchange import Exchange
from router.dataplane.headers import NOTE, REQUEST, Fields
from router.dataplane.sweep import NEVER
from router.errors import BadFraming, BodyTooLarge, GatewayError, HeadersTooLarge, InternalError, RequestTimeout, Shed

if TYPE_CHECKING:
    from router.dataplane.listener import Listener

IDLE, HEAD, BODY, LINGER = range(4)
"""What the connection is reading: nothing yet, headers, a body, or only leftovers before it closes."""

LINGER_S = 1.0
"""How long leftovers are read after a refusal, so that a reset does not overtake the answer (RFC 9112, 9.6)."""

UPLOAD_BYTES_PER_S = 16384
"""The slowest upload that is not taken for an attack."""

_CONTINUE_EXPECTED = b"100-continue"

_log = logging.getLogger("turnout.edge")


class Requests(Protocol):
    """Where exchanges go: the gateway."""

    def handle(self, exchange: Exchange, /) -> None:
        """Answer it, now or later. Never raises."""

    def abandon(self, exchange: Exchange, /) -> None:
        """Its client is gone."""

    def overdue(self, exchange: Exchange, now: float, /) -> None:
        """Its deadline passed."""


class Edge(asyncio.Protocol):
    """One client connection."""

    __slots__ = (
        "_body",
        "_body_bytes",
        "_body_since",
        "_fields",
        "_head_bytes",
        "_http11",
        "_keep_alive",
        "_method",
        "_owes_continue",
        "_parser",
        "_upgrading",
        "_url",
        "clock",
        "current",
        "expires_at",
        "listener",
        "requests",
        "stage",
        "transport",
        "waiting",
        "writable",
        "write",
    )

    def __init__(self, requests: Requests, listener: Listener, clock: Callable[[], float]) -> None:
        self.requests = requests
        self.listener = listener
        self.clock = clock
        self.transport: asyncio.Transport | None = None
        self.write: Callable[[bytes], None] = _nowhere
        self.writable = True
        self.current: Exchange | None = None
        """The exchange being answered."""
        self.waiting: deque[Exchange] = deque()
        """Pipelined requests, read while another was being answered."""
        self.stage = IDLE
        self.expires_at = NEVER
        self._parser: httptools.HttpRequestParser | None = httptools.HttpRequestParser(self)
        self._owes_continue = False
        self._upgrading = False
        self._head_bytes = 0
        self._begin()

    def _begin(self) -> None:
        self._url = b""
        self._fields = Fields(REQUEST)
        self._body: list[bytes] = []
        self._body_bytes = 0
        self._body_since = 0.0
        self._method = b""
        self._http11 = True
        self._keep_alive = True

    # Connection made, lost, full

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client connected."""
        self.transport = cast(asyncio.Transport, transport)
        self.write = self.transport.write
        self.transport.set_write_buffer_limits(high=self.listener.limits.write_buffer_bytes)
        self.expires_at = self.clock() + self.listener.timeouts.client_header_s
        if not self.listener.opened(self):
            self._refuse(Shed("This gateway has all the connections it may have; try again.", retry_after_s=1.0))

    def connection_lost(self, exc: Exception | None) -> None:
        """The client is gone; whatever it waited for is dropped at once."""
        self.listener.closed(self)
        self.transport = None
        self.write = _nowhere
        self._parser = None  # it holds our callbacks: a cycle
        self.waiting.clear()
        if self.current is not None:
            exchange, self.current = self.current, None
            self.requests.abandon(exchange)

    def eof_received(self) -> bool:
        """A client that closes its side is taken for gone, as in nginx and Go: nobody reads what it asked for."""
        return False

    def pause_writing(self) -> None:
        """The client reads slower than its pod writes."""
        self.writable = False
        if self.current is not None:
            if self.current.relay is not None:
                self.current.relay.pause()
            self.expires_at = self.clock() + (self.listener.timeouts.client_write_s or NEVER)

    def resume_writing(self) -> None:
        """It caught up."""
        self.writable = True
        if self.current is not None:
            self.expires_at = self.current.deadline or NEVER
            if self.current.relay is not None:
                self.current.relay.resume()

    # Bytes in

    def data_received(self, data: bytes) -> None:
        """Bytes from the client."""
        if self.stage == LINGER or self._parser is None:
            return
        if self.stage <= HEAD:
            if self.stage == IDLE:
                self._start_head()
            self._head_bytes += len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self._read_on_without_upgrade(data[upgrade.args[0] :])
        except httptools.HttpParserError as error:
            self._refuse(_as_refusal(error))
        else:
            if self.stage == HEAD and self._head_bytes > self.listener.limits.max_header_bytes + 16384:
                self._refuse(self._too_much_header())
        if self.current is None and self.waiting:
            self._next()

    def _start_head(self) -> None:
        self.stage = HEAD
        self._head_bytes = 0
        if self.current is None:
            self.expires_at = self.clock() + self.listener.timeouts.client_header_s

    def _too_much_header(self) -> HeadersTooLarge:
        return HeadersTooLarge(f"The request's headers exceed {self.listener.limits.max_header_bytes} bytes.")

    # httptools' callbacks, in wire order

    def on_url(self, url: bytes) -> None:
        """Part of the request target."""
        self._url += url
        if len(self._url) > self.listener.limits.max_header_bytes:
            raise self._too_much_header()

    def on_header(self, name: bytes, value: bytes) -> None:
        """One header."""
        fields = self._fields
        fields.add(name, value)
        if fields.size > self.listener.limits.max_header_bytes:
            raise self._too_much_header()

    def on_headers_complete(self) -> None:
        """The head is whole: what can be refused without its body is refused here."""
        parser = self._parser
        assert parser is not None
        self._method = parser.get_method()
        self._http11 = parser.get_http_version() == "1.1"
        self._keep_alive = parser.should_keep_alive()
        noted = self._fields.noted
        self.stage = BODY
        if parser.should_upgrade():
            self._upgrading = True
            return
        if (coding := noted.get(b"transfer-encoding")) is not None and coding.strip().lower() != b"chunked":
            raise BadFraming("Transfer-Encoding may only be 'chunked' here: send the body plain or chunked.")
        length = int(noted.get(b"content-length", b"0"))
        if length > self.listener.limits.max_body_bytes:
            raise self._too_much_body()
        if length or coding is not None:
            self._await_body(noted)
        if b"connection" in noted:
            self._fields.drop_nominated()

    def _await_body(self, noted: dict[bytes, bytes]) -> None:
        self._body_since = self.clock()
        if self.current is None:
            self.expires_at = self._body_since + (self.listener.timeouts.client_body_s or NEVER)
        if b"expect" in noted and noted[b"expect"].lower() == _CONTINUE_EXPECTED and self._http11:
            if self.current is None and not self.waiting:
                self.write(answers.CONTINUE)
            else:
                self._owes_continue = True  # its turn has not come: an interim answer would jump the queue

    def _too_much_body(self) -> BodyTooLarge:
        return BodyTooLarge(f"The request's body exceeds {self.listener.limits.max_body_bytes} bytes.")

    def on_body(self, body: bytes) -> None:
        """Part of the body, its chunk framing taken off."""
        self._body.append(body)
        self._body_bytes += len(body)
        if self._body_bytes > self.listener.limits.max_body_bytes:
            raise self._too_much_body()
        if self.current is None and self.listener.timeouts.client_body_s:
            allowed = self.listener.timeouts.client_body_s + self._body_bytes / UPLOAD_BYTES_PER_S
            self.expires_at = self._body_since + allowed

    def on_message_complete(self) -> None:
        """The request is whole."""
        if self._upgrading:
            return
        body = self._body
        exchange = Exchange(
            self,
            self._method,
            self._url,
            self._fields.kept,
            self._fields.noted,
            body[0] if len(body) == 1 else b"".join(body),
            self._http11,
            self._keep_alive,
            self.clock(),
        )
        self.stage = IDLE
        self._owes_continue = False
        self._begin()
        self.waiting.append(exchange)
        if self.current is not None and self.transport is not None:
            self.transport.pause_reading()  # one ahead is enough; the rest waits in the client's socket

    def _read_on_without_upgrade(self, rest: bytes) -> None:
        """Ignore an `Upgrade` offer (h2c from Java's client, say): llhttp stops at it, a new parser reads the body."""
        head = [self._method, b" ", self._url, b" HTTP/1.1\r\n", *self._fields.kept]
        for name, value in self._fields.noted.items():
            if REQUEST[name] == NOTE and name != b"connection":
                head += (name, b": ", value, b"\r\n")
        self._upgrading = False
        self._parser = httptools.HttpRequestParser(self)
        self._begin()
        self.stage = IDLE
        self.data_received(b"".join(head) + b"\r\n" + rest)

    @property
    def idle(self) -> bool:
        """Whether nothing is being read or answered."""
        return self.stage == IDLE and self.current is None and not self.waiting

    # Answers out

    def _next(self) -> None:
        """Take up the next request that was read."""
        exchange = self.current = self.waiting.popleft()
        self.expires_at = NEVER
        if exchange.refusal is not None:
            self.answer(exchange.refusal)
            return
        self.requests.handle(exchange)

    def finish(self, keep: bool) -> None:
        """The current answer is out. `keep`: its end was clean and the head promised to go on."""
        self.current = None
        if self.transport is None:
            return
        if not keep or self.listener.stopped:
            self.close()
        elif self.waiting:
            self._next()
        else:
            self._listen_again()

    def _listen_again(self) -> None:
        assert self.transport is not None
        now = self.clock()
        limits = self.listener.timeouts
        if self.stage == IDLE:
            self.expires_at = now + (limits.client_keepalive_s or NEVER)
        else:
            self.expires_at = now + ((limits.client_header_s if self.stage == HEAD else limits.client_body_s) or NEVER)
            if self._owes_continue:
                self._owes_continue = False
                self.write(answers.CONTINUE)
        if not self.transport.is_reading() and not self.transport.is_closing():
            self.transport.resume_reading()

    def answer(self, error: GatewayError) -> None:
        """Say what is wrong with bytes that never became a request, then let go of the connection gently."""
        self.write(answers.error_answer(error, (), close=True))
        self.current = None
        if self.transport is None:
            return
        if self.transport.can_write_eof():
            self.stage = LINGER
            self.expires_at = self.clock() + LINGER_S
            self.transport.write_eof()
            if not self.transport.is_reading():
                self.transport.resume_reading()
        else:
            self.close()

    def _refuse(self, error: GatewayError) -> None:
        """Nothing more is read; the error is said when its turn comes."""
        self.stage = LINGER
        self._parser = None
        exchange = Exchange(self, b"", b"", [], {}, b"", True, False, self.clock())
        exchange.refusal = error
        self.listener.refused(error)
        self.waiting.append(exchange)
        if self.current is None:
            self._next()

    # Ends

    def expire(self, now: float) -> None:
        """A deadline passed; which one follows from what the connection was doing."""
        self.expires_at = NEVER
        if self.transport is None or self.transport.is_closing():
            self.abort()
        elif self.current is not None:
            if self.writable:
                self.requests.overdue(self.current, now)
            else:
                self.abort()
        elif self.stage == HEAD:
            self._refuse(RequestTimeout("The request's headers did not arrive in time."))
        elif self.stage == BODY:
            self._refuse(RequestTimeout("The request's body did not arrive in time."))
        else:
            self.close()

    def close(self) -> None:
        """Send what is buffered, then close; a client that does not take it is cut off in the end."""
        if self.transport is not None:
            self.expires_at = self.clock() + (self.listener.timeouts.client_write_s or LINGER_S)
            self.transport.close()

    def abort(self) -> None:
        """Close at once, so that the client cannot take what it has for complete."""
        if self.transport is not None:
            self.transport.abort()


def _as_refusal(error: httptools.HttpParserError) -> GatewayError:
    cause = error.__context__
    if isinstance(cause, GatewayError):
        return cause
    if cause is not None and isinstance(error, httptools.HttpParserCallbackError):
        _log.error("a request's head could not be taken in", exc_info=cause)
        return InternalError("The gateway failed to read this request; its log says why.")
    return BadFraming(f"This is not HTTP/1.1: {error}.")


def _nowhere(data: bytes) -> None:
    """Where answers to a client that is gone are written."""
