"""Stage 6: pod -> client. One `Relay` an attempt: passes the answer's bytes on as they come, with backpressure, and
reports the head, the first body byte and the end to its `RelayListener`. Knows framing on both sides, no policy and no
retry.

The relay holds the head until the first body byte: until then the client has nothing, so another pod can still get the
request. Of an SSE stream whole chunks are passed on as they come, whatever is in them; only a chunk that came in part
is held until the rest is here. When a pod dies, an error event follows if the client's bytes end with a line.
"""

from __future__ import annotations

from typing import Final, Protocol

from router.dataplane.exchange import Exchange, Placement
from router.dataplane.http import responses, sse
from router.dataplane.http.chunked import LAST_CHUNK, chunk
from router.dataplane.http.response_parser import CHUNKED, LENGTH, NO_BODY, UNTIL_CLOSE, ResponseHead
from router.dataplane.http.upstream import DISCARD
from router.dataplane.http.upstream_connection import UpstreamConnection
from router.dataplane.prefix_feedback import SMALL_PIECE, TAIL_BYTES
from router.errors import PodFailure

RAW: Final = 0
WRAP: Final = 1
BARE: Final = 2
"""Body framing towards the client: as the pod sent it, put into chunks, or none (its end is the connection's)."""

MAX_HELD_BYTES: Final = 65536
"""A chunk of an SSE stream larger than this is passed on in pieces."""

DISCARD_S: Final = 60.0
"""Seconds in which a pod must send the next byte of an answer that another pod gives instead."""

_CHUNKED_HEADER: Final = b"transfer-encoding: chunked\r\n"
_STATUS_LINES: Final = {status: responses.status_line(status) for status in range(200, 600)}


class RelayListener(Protocol):
    """Takes the reports of a relay; `Attempts` implements it."""

    def answered(self, relay: Relay, status: int, /) -> bool:
        """The pod's head came. False: the client does not get this answer, because another pod has the request now."""

    def holds(self, relay: Relay, head: ResponseHead, framing: int, length: int, /) -> bool:
        """The head of a 404 came, once for each relay. True: another receiver reads the answer, without its chunk
        framing, and perhaps gives it to this relay again."""

    def headers(self, relay: Relay, head: ResponseHead, /) -> list[bytes]:
        """The pod's and the gateway's own response headers, ready to be joined into the head."""

    def first_byte(self, relay: Relay, now: float, /) -> None:
        """The first body byte came, at `now` on the gateway's clock."""

    def finished(self, relay: Relay, /) -> None:
        """The whole answer was written to the client's connection."""

    def failed(self, relay: Relay, failure: PodFailure, /) -> None:
        """The attempt ended early."""


class Relay:
    """One attempt, from the pod's connection back to the client."""

    __slots__ = (
        "_encoded",
        "_framing",
        "_head",
        "_held",
        "_metrics",
        "_mode",
        "_torn",
        "_write_event",
        "begun",
        "connection",
        "exchange",
        "first_at",
        "last",
        "last_at",
        "listener",
        "placement",
        "sent_at",
        "sse",
        "status",
        "tail",
        "was_held",
    )

    def __init__(self, listener: RelayListener, exchange: Exchange, placement: Placement) -> None:
        self.listener = listener
        self.exchange = exchange
        self.placement = placement
        self.sent_at = 0.0
        """When the request was sent, on the gateway's clock."""
        self.connection: UpstreamConnection | None = None
        self.status = 0
        self.was_held = False
        """Whether a 404 was offered to the listener, which may have kept it and given it back."""
        self.sse = False
        self.begun = False
        """Whether the client has been sent anything."""
        self.first_at = 0.0
        """When the first body byte came, on the gateway's clock."""
        self.last_at = 0.0
        """When body bytes last came, on the gateway's clock; 0.0 before the first."""
        self.last = b""
        """What `sse` needs of the last piece of a stream that was passed on, with its chunk framing if it has one."""
        self.tail = b""
        """The end of the last piece of the body that may hold `usage`; `[DONE]` and the last chunk may follow."""
        self._metrics = exchange.routed.metrics
        self._write_event = exchange.edge.write_now
        self._encoded = False
        self._head: list[bytes] = []
        self._held = b""
        self._torn = False
        """The client was sent part of a chunk."""
        self._framing = NO_BODY
        self._mode = RAW

    # Called by the pod's connection

    def connected(self, connection: UpstreamConnection) -> None:
        """The request was given to this connection."""
        if self.exchange.done or self.exchange.relay is not self:
            connection.abort()  # the client left while the connection was made
            return
        self.connection = connection
        if not self.exchange.edge.writable:  # it has the beginning of the answer, and has not caught up
            self.pause()

    def head(self, head: ResponseHead, framing: int, length: int) -> bool:
        """Make the client's head of the pod's status and headers; see `Receiver.head`."""
        self.status = head.status
        if head.status == 404 and not self.was_held:
            self.was_held = True
            if self.listener.holds(self, head, framing, length):
                return True
        self.sse = head.sse
        self._encoded = head.encoded
        if not self.listener.answered(self, head.status):
            return False
        exchange = self.exchange
        self._framing = framing
        line = _STATUS_LINES.get(head.status) or responses.status_line(head.status)
        self._head = [line, *self.listener.headers(self, head)]
        self._frame(framing, length)
        if not exchange.keep_alive or not exchange.http11:
            self._head.append(exchange.connection_line)
        self._head.append(b"\r\n")
        return self._mode == BARE and framing == CHUNKED

    def _frame(self, framing: int, length: int) -> None:
        if framing == LENGTH or (framing == NO_BODY and length >= 0):
            self._head.append(b"content-length: %d\r\n" % length)
        elif framing in (CHUNKED, UNTIL_CLOSE):
            if self.exchange.http11:
                self._mode = RAW if framing == CHUNKED else WRAP
                self._head.append(_CHUNKED_HEADER)
            else:
                self._mode = BARE
                self.exchange.keep_alive = False

    def data(self, piece: bytes, safe: int, now: float) -> None:
        """Body bytes; see `Receiver.data`."""
        size = len(piece)
        if not self.last_at:
            self.first_at = now
            self.listener.first_byte(self, now)
        elif self.sse:
            self._metrics.itl.observe(now - self.last_at)
        self.last_at = now
        if size > SMALL_PIECE:
            # Cut to what is read of it: whole pieces would keep 0.7 MB for each stream with a slow client.
            self.tail = piece if size <= TAIL_BYTES else piece[-TAIL_BYTES:]
        if self.sse:
            if safe != size or self._held or self._torn:
                piece = self._hold_back(piece, safe)
            if not piece:
                return
            self.last = piece if len(piece) <= TAIL_BYTES else sse.kept_of(piece, TAIL_BYTES)
        if piece:
            self._pass_on(piece)

    def _hold_back(self, piece: bytes, safe: int) -> bytes:
        """Keep the bytes past the last whole chunk; returns the bytes that may be sent."""
        ready, rest = (self._held + piece[:safe], piece[safe:]) if safe else (b"", self._held + piece)
        if safe:
            self._torn = False
        if len(rest) > MAX_HELD_BYTES:
            self._torn = True
            ready, rest = ready + rest, b""
        self._held = rest
        return ready

    def _pass_on(self, piece: bytes) -> None:
        if self._mode == WRAP:
            piece = chunk(piece)
        self._metrics.bytes_out += len(piece)
        if self._head:
            self._head.append(piece)
            piece = b"".join(self._head)
            self._head = []
            self.begun = True
            self.exchange.edge.flush()  # what is left of the previous answer
        if self.sse:
            self._write_event(piece)
        else:
            self.exchange.edge.write(piece)

    def end(self) -> None:
        """The answer is complete."""
        self.connection = None
        if self._held:  # an event without its blank line: passed on as it came
            held, self._held = self._held, b""
            self._pass_on(held)
        last = LAST_CHUNK if self._mode == WRAP else b""
        if self._head:
            last = b"".join(self._head) + last
            self._head = []
            self.begun = True
        if last:
            self.exchange.edge.write(last)
        self.listener.finished(self)

    def failed(self, failure: PodFailure) -> None:
        """The attempt ended early."""
        self.connection = None
        if not self.exchange.done and self.exchange.relay is self:
            self.listener.failed(self, failure)

    # Called by the stages above and for the client's connection

    def pause(self) -> None:
        """The client's write buffer is full: stop reading from the pod."""
        if self.connection is not None:
            self.connection.pause()

    def resume(self) -> None:
        """The client takes bytes again: read from the pod again."""
        if self.connection is not None:
            self.connection.resume()

    def cancel(self) -> None:
        """The answer is not wanted: closing the connection makes the pod stop generating."""
        connection, self.connection = self.connection, None
        if connection is not None:
            connection.abort()

    def discard(self) -> None:
        """Another pod has the request: read this answer to its end, so that its connection can be used again."""
        connection, self.connection = self.connection, None
        if connection is not None:
            connection.hand_over(DISCARD, DISCARD_S)

    def conclude(self) -> bool:
        """The client left. If it has the event after which clients close, the answer counts as complete and the pod
        may end it; returns whether."""
        connection = self.connection
        if connection is None or not self.sse or self._encoded or self._torn or self._held:
            return False
        if not self._payload_end().endswith(sse.LINE_ENDS) or not sse.has_last_event(self.last):
            return False
        receiver = connection.receiver
        self.discard()
        if receiver is not None:
            receiver.end()
        return True

    def _payload_end(self) -> bytes:
        """The end of what the client has of a stream, without the CRLF of a chunk."""
        return self.last[:-2] if self._mode == RAW and self._framing == CHUNKED else self.last

    def break_off(self, failure: PodFailure) -> None:
        """End a begun answer so that it cannot be taken for complete: an SSE stream gets an error event and no last
        chunk, anything else, and a stream in the middle of a line, is cut short of the length it promised."""
        edge = self.exchange.edge
        raw = self._mode == RAW
        sent = self._payload_end()
        at_line_end = not sent or sent.endswith(sse.LINE_ENDS)
        if not self.sse or self._encoded or self._torn or not at_line_end or (raw and self._framing != CHUNKED):
            edge.abort()
            return
        event = responses.error_event(failure, responses.dialect_of(self.exchange.path), self.tail)
        if sent and not sent.endswith(sse.EVENT_ENDS):
            event = b"\n\n" + event  # the event before it ends here
        edge.write(event if self._mode == BARE else chunk(event))
        edge.close()
