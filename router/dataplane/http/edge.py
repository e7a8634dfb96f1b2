"""Stage 1: a client connection. Bytes in, whole requests out in order; answers back with backpressure.

Knows HTTP/1.x and its limits, nothing of models, pools or pods. The `RequestHandler` makes a request of type `R` from
the bytes; the connection knows that request as an `OpenRequest`.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Generic, Protocol

from router.dataplane.http import responses
from router.dataplane.http.buffer_budget import BufferBudget, HeldBytes
from router.dataplane.http.deadlines import NEVER
from router.dataplane.http.open_request import R
from router.dataplane.http.request_head import RequestHead
from router.dataplane.http.request_parser import HEAD, IDLE, Admit, RequestParser
from router.dataplane.http.write_batcher import MIN_ACTIVE, WriteBatcher
from router.errors import GatewayError, RequestTimeout, Shed
from router.settings import Limits, Timeouts

LINGER_S, LINGER_MOST_S = 5.0, 30.0
"""Seconds for which a client that may still be sending is read after its last answer: without a byte, and at most.
Closing a socket with unread bytes sends a reset, which may reach the client before the answer (RFC 9112, 9.6)."""

UPLOAD_BYTES_PER_S = 16384
"""An upload times out when it is slower than this after its first `client_body_s`."""


class RequestHandler(Protocol[R]):
    """Answers the requests of all connections; `Gateway` implements it."""

    def begin(self, edge: Edge[R], head: RequestHead, body: bytes, arrived: float, /) -> R:
        """A request was read; `handle` follows after the answers before it on the connection. Never raises."""

    def handle(self, request: R, /) -> None:
        """Answer the request, now or later. Never raises."""

    def abandon(self, request: R, /) -> None:
        """The client is gone: end the request without an answer."""

    def overdue(self, request: R, now: float, /) -> None:
        """The request's deadline passed."""


class EdgeOwner(Protocol[R]):
    """The listener that accepted a connection."""

    limits: Limits
    timeouts: Timeouts
    write_batcher: WriteBatcher
    budget: BufferBudget
    admit: Admit | None
    stopped: bool
    """Every connection closes after its current answer."""

    def opened(self, edge: Edge[R], /) -> Shed | None:
        """A client connected; returns why it is refused, if it is."""

    def closed(self, edge: Edge[R], /) -> None:
        """The connection is closed."""

    def refused(self, error: GatewayError, /) -> responses.Headers:
        """The connection refuses bytes that never became a request; returns the headers of the answer."""


class Edge(Generic[R]):
    """One client connection: an asyncio protocol by its methods, not by inheritance, so that mypyc can compile it."""

    __slots__ = (
        "_body_since",
        "_limits",
        "_out",
        "_owes_continue",
        "_timeouts",
        "_write_batcher",
        "clock",
        "current",
        "expires_at",
        "held",
        "listener",
        "peer",
        "reader",
        "requests",
        "transport",
        "used",
        "waiting",
        "writable",
        "write_now",
    )

    def __init__(
        self, requests: RequestHandler[R], listener: EdgeOwner[R], clock: Callable[[], float], reads: bool = True
    ) -> None:
        self.requests, self.listener, self.clock = requests, listener, clock
        self._limits, self._timeouts = listener.limits, listener.timeouts
        self._write_batcher = listener.write_batcher
        self.transport: asyncio.Transport | None = None
        self.write_now: Callable[[bytes], None] = _nowhere
        """Writes at once, past what `write` keeps until the end of the turn; the caller calls `flush` first."""
        self._out: list[bytes] = []
        """Written in this turn of the loop and not sent yet."""
        self.current: R | None = None
        """The request being answered."""
        self.waiting: deque[R | GatewayError] = deque()
        """Pipelined requests, read while another was being answered. An error comes last; nothing is read after it."""
        self.writable = True
        """False while the client's write buffer is full."""
        self.expires_at = NEVER
        self.peer = ""
        """The client's address, where the listener keeps it."""
        self.used = False  # whether a request has come, ever
        self.held = HeldBytes(listener.budget)
        reader = RequestParser(self, self._limits, self.held, listener.admit) if reads else None
        self.reader: RequestParser | None = reader
        """None when nothing more is read as requests: the connection was refused, or is closed."""
        self._body_since, self._owes_continue = 0.0, False

    # Connection made, lost, full

    def connection_made(self, transport: asyncio.Transport) -> None:
        """A client connected."""
        self.transport = transport
        self.write_now = self.transport.write
        self.transport.set_write_buffer_limits(high=self._limits.write_buffer_bytes)
        self.expires_at = self.clock() + (self._timeouts.client_header_s or NEVER)
        if (refusal := self.listener.opened(self)) is not None:
            self._refuse(refusal)

    def connection_lost(self, exc: Exception | None) -> None:
        """The client is gone: abandon its request and drop the ones that wait."""
        self.listener.closed(self)
        self.transport = None
        self.write_now = _nowhere
        self._out.clear()
        self.reader = None  # it refers back to this connection: a reference cycle
        self.waiting.clear()
        if self.current is not None:
            request, self.current = self.current, None
            self.requests.abandon(request)

    def eof_received(self) -> bool:
        """The client closed its side: treated as gone, as in nginx and Go."""
        return False

    def pause_writing(self) -> None:
        """The client's write buffer is full: pause the answer."""
        self.writable = False
        self.expires_at = self.clock() + (self._timeouts.client_write_s or NEVER)
        if self.transport is not None and not self.held.unsent(self.transport.get_write_buffer_size()):
            self.abort()
        elif self.current is not None:
            self.current.pause()

    def resume_writing(self) -> None:
        """It caught up."""
        self.writable = True
        self.held.unsent(0)
        if self.current is not None:
            self.expires_at = self.current.deadline or NEVER
            self.current.resume()
        else:
            self._go_on()

    # Bytes in

    def data_received(self, data: bytes) -> None:
        """Bytes from the client."""
        if (reader := self.reader) is None:
            return self._go_on()  # only leftovers
        try:
            reader.feed(data)
        except GatewayError as error:
            self._refuse(error)
        if self.current is None and self.waiting and self.writable:
            self._next()

    def head_begun(self) -> None:
        """See `ParserOwner`."""
        if self.current is None:
            self.expires_at = self.clock() + (self._timeouts.client_header_s or NEVER)

    def body_expected(self, wants_continue: bool) -> None:
        """See `ParserOwner`."""
        self._body_since = self.clock()
        if self.current is None:
            self.expires_at = self._body_since + (self._timeouts.client_body_s or NEVER)
        if wants_continue and self.current is None and not self.waiting:
            self.write(responses.CONTINUE)
        elif wants_continue:
            self._owes_continue = True  # the answers before it come first

    def body_grew(self, total_bytes: int) -> None:
        """See `ParserOwner`."""
        if self.current is None and self._timeouts.client_body_s:
            self.expires_at = self._body_since + self._timeouts.client_body_s + total_bytes / UPLOAD_BYTES_PER_S

    def received(self, head: RequestHead, body: bytes) -> None:
        """See `ParserOwner`."""
        if self.waiting or self.current is not None:
            self.held.read_ahead()
        self.used = True
        self.waiting.append(self.requests.begin(self, head, body, self.clock()))
        self._owes_continue = False
        if (self.current is not None or not self.writable) and self.transport is not None:
            self.transport.pause_reading()  # one request ahead is enough; the socket's buffer keeps the rest

    @property
    def stage(self) -> int:
        """What is being read: `IDLE`, `HEAD` or `BODY` of the parser."""
        return self.reader.stage if self.reader is not None else IDLE

    @property
    def idle(self) -> bool:
        """Whether nothing is being read or answered."""
        return self.current is None and not self.waiting and self.stage == IDLE

    # Answers out

    def write(self, data: bytes) -> None:
        """Send `data` at the end of this turn of the loop, with other writes; drop it if the client is gone."""
        out, write_batcher = self._out, self._write_batcher
        if self.transport is None:
            return
        if not out and (len(write_batcher.active) < MIN_ACTIVE or write_batcher.quiet()):
            self.transport.write(data)
            return
        out.append(data)
        if len(out) == 1:
            write_batcher.add(self)

    def flush(self) -> None:
        """See `BufferedWriter`."""
        out = self._out
        if out and self.transport is not None:
            self._out = []
            if not self.transport.is_closing():
                self.transport.write(out[0] if len(out) == 1 else b"".join(out))

    def _next(self) -> None:
        """Handle the next request that was read, or send the error in its place."""
        following = self.waiting.popleft()
        self.expires_at = NEVER
        if isinstance(following, GatewayError):
            following.client = self.peer
            self.write(responses.error_answer(following, self.listener.refused(following), connection=responses.CLOSE))
            self._end()
            return
        self.current = following
        self.requests.handle(following)

    def finish(self, keep: bool) -> None:
        """The current answer was written. `keep`: its end was clean and its head announced an open connection."""
        self.current = None
        if self.held.bodies and not self.waiting:
            self.held.ended()
        if self.transport is None:
            return
        if not keep or self.listener.stopped:
            self.waiting.clear()  # an error among them would be written after the end
            self._end()
        elif not self.writable:
            return  # no further answer for a client that does not read: `resume_writing` goes on from here
        elif self.waiting:
            # Not from inside the present answer: thousands of pipelined requests would nest thousands of calls.
            asyncio.get_running_loop().call_soon(self._go_on)
        else:
            self._await_request(self.transport)

    def _go_on(self) -> None:
        """After an answer, or a part of one: handle the next request if one waits, else read on."""
        if self.transport is None or self.transport.is_closing() or self.current is not None or not self.writable:
            return
        if self.waiting:
            self._next()
        elif self.reader is not None:
            self._await_request(self.transport)
        else:  # a client that did not take the last answer had the time of `pause_writing`
            self.expires_at = min(self.clock() + LINGER_S, self._body_since + LINGER_MOST_S)

    def _await_request(self, transport: asyncio.Transport) -> None:
        now, timeouts, stage = self.clock(), self._timeouts, self.stage
        if stage == IDLE:
            self.expires_at = now + (timeouts.client_keepalive_s or NEVER)
        else:
            self.expires_at = now + ((timeouts.client_header_s if stage == HEAD else timeouts.client_body_s) or NEVER)
            self._body_since = now
            if self._owes_continue:
                self._owes_continue = False
                self.write(responses.CONTINUE)
        if not transport.is_reading() and not transport.is_closing():
            transport.resume_reading()

    def _end(self) -> None:
        """Close after the last answer; where the client may still be sending, without a reset."""
        transport, reader, self.reader = self.transport, self.reader, None
        if transport is None or not transport.can_write_eof() or not self.writable:
            self.close()  # TLS reads on by itself
        elif reader is not None and reader.stage == IDLE and transport.is_reading():
            self.close()  # all that came was read
        else:
            self.held.closed()  # nothing of what came is kept
            self._body_since = self.clock()
            self.flush()
            transport.write_eof()
            self._go_on()
            if not transport.is_reading():
                transport.resume_reading()

    def _refuse(self, error: GatewayError) -> None:
        """Read no further requests; the error is sent after the answers before it, to a client that takes them."""
        self.reader = None
        self.waiting.append(error)
        if self.current is None and self.writable:
            self.held.closed()
            self._next()

    # Ends

    def expire(self, now: float) -> None:
        """`expires_at` passed: abort, close or refuse, depending on what the connection was doing."""
        self.expires_at = NEVER
        if self.transport is None or self.transport.is_closing() or not self.writable:
            self.abort()
        elif self.current is not None:
            self.requests.overdue(self.current, now)
        elif self.stage == IDLE:
            self.close()
        else:
            part = "headers" if self.stage == HEAD else "body"
            self._refuse(RequestTimeout(f"The request's {part} did not arrive in time."))

    def close(self) -> None:
        """Send what is buffered, then close; after `client_write_s` the connection is aborted."""
        if self.transport is not None:
            self.expires_at = self.clock() + (self._timeouts.client_write_s or LINGER_S)
            self.flush()
            self.transport.close()

    def abort(self) -> None:
        """Close at once, so that the client cannot take what it has for complete."""
        self._out.clear()
        if self.transport is not None:
            self.transport.abort()


def _nowhere(data: bytes) -> None:
    """The `write_now` of a closed connection: drops the bytes."""
