"""Stage 5b: one connection to one pod, one request at a time. The request's `Receiver` gets the answer or the failure.

`response_parser.py` reads the head and `chunked.py` follows the chunks of the body, whose bytes are passed on as they
came. A connection is used again only if the pod read the whole request and sent exactly one answer to it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final, Protocol

from router.dataplane.http.chunked import BadChunk, ChunkScanner
from router.dataplane.http.deadlines import NEVER, Deadlines
from router.dataplane.http.response_parser import (
    CHUNKED,
    LENGTH,
    NO_BODY,
    UNTIL_CLOSE,
    BadHead,
    ResponseHead,
    memory,
    read_head,
)
from router.dataplane.http.write_batcher import MIN_ACTIVE, WriteBatcher
from router.errors import (
    BadAnswer,
    CutMidAnswer,
    FirstByteTimeout,
    IdleTimeout,
    PodFailure,
    StaleConnection,
)
from router.settings import Timeouts

MAX_INTERIM: Final = 16
"""Interim answers (1xx) before the answer; more are no answer."""


class Receiver(Protocol):
    """Takes the answer to one request: a `Relay`, or what is put in front of it."""

    def connected(self, connection: UpstreamConnection, /) -> None:
        """The request was given to `connection`."""

    def head(self, head: ResponseHead, framing: int, length: int, /) -> bool:
        """The answer's head; `length` is its content-length, -1 without one. Returns whether `data` is to get the body
        without chunk framing."""

    def data(self, piece: bytes, safe: int, now: float, /) -> None:
        """Body bytes that came at `now`; the first `safe` of them end with a whole chunk."""

    def end(self) -> None:
        """The answer is complete."""

    def failed(self, failure: PodFailure, /) -> None:
        """There is no complete answer; no further call follows."""


class ConnectionOwner(Protocol):
    """Keeps idle connections; `Upstream` implements it."""

    deadlines: Deadlines
    write_batcher: WriteBatcher
    open: int
    """Connections that are open."""

    def park(self, connection: UpstreamConnection, /) -> None:
        """The connection is idle and can be used again."""

    def forget(self, connection: UpstreamConnection, /) -> None:
        """The connection closed while it was idle."""

    def lost_before_head(self, address: str, exc: Exception | None, /, *, again: bool) -> PodFailure:
        """The failure of a connection that ended before an answer; `again`: after others, as idle ones do."""


class UpstreamConnection:
    """One connection to one pod, one request at a time. An asyncio protocol by its methods, as `Edge` is."""

    __slots__ = (
        "_buffer",
        "_clock",
        "_framing",
        "_head_only",
        "_idle_s",
        "_in_body",
        "_interim",
        "_keep",
        "_large",
        "_left",
        "_out",
        "_recall",
        "_scanner",
        "_timeouts",
        "_unwrap",
        "_upstream",
        "_write_batcher",
        "address",
        "expires_at",
        "receiver",
        "served",
        "transport",
    )

    def __init__(self, upstream: ConnectionOwner, address: str) -> None:
        self._upstream = upstream
        self._clock = upstream.deadlines.clock
        self._write_batcher = upstream.write_batcher
        self.address = address
        self.transport: asyncio.Transport | None = None
        self.expires_at = NEVER
        self.served = 0
        """Answers completed on this connection."""
        self._recall = memory()
        # the request under way
        self.receiver: Receiver | None = None
        self._out: Sequence[bytes] = ()
        """The request, until it is written at the end of the turn of the loop."""
        self._timeouts = Timeouts()
        self._idle_s = NEVER
        """`_timeouts.idle_s`, or NEVER; read for every chunk."""
        self._large = False
        """The request is so large that the pod may answer before it has read all of it."""
        self._head_only = False
        self._interim = 0
        self._buffer = b""
        """The beginning of a head, or of a line of chunk framing."""
        self._in_body = False
        self._framing = NO_BODY
        self._left = 0
        self._scanner = ChunkScanner()
        self._unwrap = False
        self._keep = False

    @property
    def closing(self) -> bool:
        """Whether it can no longer be used."""
        return self.transport is None or self.transport.is_closing()

    # Life

    def connection_made(self, transport: asyncio.Transport) -> None:
        """The pod accepted the connection."""
        self.transport = transport
        self._upstream.open += 1
        self._upstream.deadlines.members.add(self)

    def send(self, payload: Sequence[bytes], receiver: Receiver, timeouts: Timeouts, head_only: bool) -> None:
        """Send one request, in one or more parts; the connection must be open and idle. See `Upstream.send`."""
        self.receiver = receiver
        self._timeouts = timeouts
        self._idle_s = timeouts.idle_s or NEVER
        self._head_only = head_only
        self._interim = 0
        self._large = len(payload) > 1
        self._in_body = False
        self.expires_at = self._clock() + (timeouts.first_byte_s or NEVER)
        receiver.connected(self)
        self._out = payload
        write_batcher = self._write_batcher
        if len(write_batcher.active) < MIN_ACTIVE or write_batcher.quiet():
            self.flush()
        else:
            write_batcher.add(self)

    def flush(self) -> None:
        """See `BufferedWriter`."""
        out, self._out = self._out, ()
        if self.receiver is None or self.transport is None or self.transport.is_closing():
            return  # aborted meanwhile: the pod must not start on it
        if len(out) == 1:
            self.transport.write(out[0])
        elif out:
            self.transport.writelines(out)

    def eof_received(self) -> bool:
        """The pod closed its side: the connection is over."""
        return False

    def pause_writing(self) -> None:
        """The pod reads its request slowly. Nothing to stop: the whole request is in memory already."""

    def resume_writing(self) -> None:
        """Nothing to do."""

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is closed, by the pod or by this side."""
        self.transport = None
        self._upstream.open -= 1
        self._upstream.deadlines.members.discard(self)
        receiver, self.receiver = self.receiver, None
        if receiver is None:
            self._upstream.forget(self)
        elif not self._in_body:
            again = self.served > 0 and not self._buffer
            receiver.failed(self._upstream.lost_before_head(self.address, exc, again=again))
        elif self._framing == UNTIL_CLOSE and exc is None:
            receiver.end()
        else:
            receiver.failed(CutMidAnswer(f"Pod {self.address} closed the connection in the middle of its answer."))

    def expire(self, now: float) -> None:
        """`expires_at` passed: the answer did not begin or go on in time, or the keep-alive time is over."""
        self.expires_at = NEVER
        receiver, self.receiver = self.receiver, None
        if receiver is not None:
            limits = self._timeouts
            if self._in_body:
                receiver.failed(IdleTimeout(f"Pod {self.address} sent nothing for {limits.idle_s:g} s mid-answer."))
            else:
                receiver.failed(FirstByteTimeout(f"Pod {self.address} did not answer in {limits.first_byte_s:g} s."))
        self.abort()

    def abort(self) -> None:
        """Close at once; the receiver of a request under way is not called."""
        self.receiver = None
        if self.transport is not None:
            self.transport.abort()

    def hand_over(self, receiver: Receiver, idle_s: float) -> None:
        """Give the rest of the answer to `receiver`; the pod must send each next byte within `idle_s`."""
        self.receiver = receiver
        self._idle_s = idle_s
        self.resume()

    # Backpressure

    def pause(self) -> None:
        """The client is slower than the pod: read no more, so that TCP makes the pod wait."""
        if self.transport is not None and not self.transport.is_closing():
            self.transport.pause_reading()
            self.expires_at = NEVER  # the pod is not at fault now; the client's own limit runs

    def resume(self) -> None:
        """Read from the pod again."""
        if self.transport is not None and not self.transport.is_closing():
            self.expires_at = self._clock() + self._idle_s
            self.transport.resume_reading()

    # Receiving the answer, in wire order

    def data_received(self, data: bytes) -> None:
        """Bytes from the pod."""
        receiver = self.receiver
        if receiver is None:
            self.abort()  # an answer to no request: the next request must not get it
        elif self._in_body:
            self._body(data, receiver)
        else:
            self._head(data, receiver)

    def _head(self, data: bytes, receiver: Receiver) -> None:
        if self._out:  # the request has not left yet
            self._fail(StaleConnection(f"Pod {self.address} answered what was not asked."))
            return
        if self._buffer:
            data, self._buffer = self._buffer + data, b""
        try:
            begun = self._recall.recall(data) or read_head(data, self._recall)
            while begun is not None and begun[0].status < 200:  # 100 Continue, 103: interim, the answer follows
                data = data[begun[1] :]
                self._interim += 1
                if self._interim > MAX_INTERIM:
                    raise BadHead(f"more than {MAX_INTERIM} interim answers")
                begun = (self._recall.recall(data) or read_head(data, self._recall)) if data else None
        except BadHead as error:
            self._fail(BadAnswer(f"Pod {self.address} sent an answer that is not HTTP/1.1: {error}."))
            return
        if begun is None:
            self._buffer = data
            return
        head, end, length = begun
        self._framing = NO_BODY if self._head_only else head.framing
        self._left = max(0, length)
        # After an early refusal the kernel's buffers may hold the rest of the request, in front of the next one.
        self._keep = head.keep and not (self._large and head.status >= 400)
        if self._framing == CHUNKED:
            self._scanner = ChunkScanner()
        self._in_body = True
        self.expires_at = self._clock() + (self._timeouts.first_byte_s or NEVER)
        self._unwrap = receiver.head(head, self._framing, length)
        if self._framing == NO_BODY or (self._framing == LENGTH and not self._left):
            self._done(reusable=len(data) == end)
        elif len(data) > end and self.receiver is not None:
            self._body(data[end:], self.receiver)  # `receiver.head` may have replaced the receiver

    def _body(self, data: bytes, receiver: Receiver) -> None:
        now = self._clock()
        self.expires_at = now + self._idle_s
        if self._framing == CHUNKED:
            self._chunks(data, receiver, now)
        elif self._framing == LENGTH:
            size = len(data)
            if size < self._left:
                self._left -= size
                receiver.data(data, size, now)
            else:
                receiver.data(data if size == self._left else data[: self._left], self._left, now)
                self._done(reusable=size == self._left)
        else:
            receiver.data(data, len(data), now)

    def _chunks(self, data: bytes, receiver: Receiver, now: float) -> None:
        if self._buffer:
            data, self._buffer = self._buffer + data, b""
        scanner = self._scanner
        payload: list[bytes] | None = [] if self._unwrap else None
        try:
            end = scanner.feed(data, payload)
        except BadChunk as error:
            self._fail(BadAnswer(f"Pod {self.address} broke its chunk framing: {error}."))
            return
        if payload is None and end < 0 and scanner.settled == len(data):
            receiver.data(data, scanner.safe, now)  # the usual case: whole chunks
            return
        piece = scanner.passed(data, end) if payload is None else b"".join(payload)
        torn = len(payload[-1]) if payload and scanner.left else 0
        if piece:
            receiver.data(piece, scanner.safe if payload is None and end < 0 else len(piece) - torn, now)
        if end < 0:
            self._buffer = data[scanner.settled :]
        else:
            self._done(reusable=end == len(data))

    def _done(self, reusable: bool) -> None:
        """The answer is complete: park the connection if it can be used again, else close it."""
        receiver, self.receiver = self.receiver, None
        if receiver is None:  # aborted by its receiver while the last bytes were passed on
            return
        self.served += 1
        self._in_body = False
        if self._large and self.transport is not None and self.transport.get_write_buffer_size():
            reusable = False  # the pod answered before it had the whole request
        if reusable and self._keep and self.transport is not None and not self.transport.is_closing():
            if not self.transport.is_reading():
                self.transport.resume_reading()  # was paused for a slow client, whose write buffer has the rest now
            self.expires_at = self._clock() + self._timeouts.upstream_keepalive_s
            self._upstream.park(self)
        else:
            self.abort()
        receiver.end()

    def _fail(self, failure: PodFailure) -> None:
        receiver, self.receiver = self.receiver, None
        self.abort()
        if receiver is not None:
            receiver.failed(failure)
