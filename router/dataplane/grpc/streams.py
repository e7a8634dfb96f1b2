"""The streams of one HTTP/2 connection as far as this side sends on them: their states, the windows of both sides, and
queues for bodies that wait for the other side's. Reads no frame, and knows no call.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Final, Protocol

from router.dataplane.grpc import frames
from router.dataplane.grpc.frames import WINDOW, ErrorCode
from router.dataplane.grpc.header_blocks import UNSAID, HeaderBlocks
from router.dataplane.grpc.status import Headers

CONNECTION_WINDOW: Final = 1 << 20
"""Bytes that may be under way on a connection and not passed on; 64 KB of each stream."""


SMALL: Final = 512
"""A piece of fewer bytes that waits is joined with the next: alone each would take more memory than its bytes."""


class StreamEvents(Protocol):
    """What takes the events of a stream."""

    def headers(self, headers: Headers, /, *, ended: bool) -> None:
        """Headers came, or trailers."""

    def data(self, piece: bytes, counted: int, /) -> None:
        """Bytes came, of which the windows hold `counted` until they are acknowledged."""

    def ended(self) -> None:
        """The other side sends no more. Not called where headers said so."""

    def reset(self, code: int, /) -> None:
        """The other side ended the stream, or the connection is gone. No event follows."""


class Outgoing:
    """What is to be sent on one stream."""

    def __init__(self, on_sent: Callable[[int], None]) -> None:
        self.on_sent = on_sent
        self.pieces: deque[tuple[bytes, int]] = deque()
        self.at = 0
        """Bytes of the first piece that were sent."""
        self.end = False
        self.trailers: Headers = []
        self.waits_since = 0.0
        """When the other side last let something through, if more is to be sent; 0 while nothing waits."""


class StreamState:
    """A stream that is not closed both ways."""

    def __init__(self, send_window: int, receive_window: int) -> None:
        self.send_window = send_window
        self.receive_window = receive_window
        self.passed_on = 0
        """Bytes that were acknowledged and not yet given back to the window."""
        self.answered = False
        """The head of the answer has come."""
        self.promised = UNSAID
        """Bytes of the body that are still to come by its content-length."""
        self.sent_all = False
        self.received_all = False

    def keeps(self, size: int, *, ended: bool) -> bool:
        """Count bytes of the body; whether they and its end are what its content-length says (RFC 9113, 8.1.1)."""
        if self.promised == UNSAID:
            return True
        self.promised -= size
        return self.promised == 0 if ended else self.promised >= 0


class OpenStreams:
    """Sends. Each call is followed by a flush at the end of the event that led to it."""

    def __init__(self, *, client: bool, window: int, stream_window: int) -> None:
        """`window`, `stream_window`: bytes that the other side may send ahead, over all streams and on each."""
        self.transport: asyncio.Transport | None = None
        self.streams: dict[int, StreamEvents] = {}
        self.writable = True
        self.highest_stream = 0
        """The last stream that the client has begun."""
        self._client = client
        self._window = window
        self._stream_window = stream_window
        self._blocks = HeaderBlocks()
        self._states: dict[int, StreamState] = {}
        self._outgoing: dict[int, Outgoing] = {}
        self._made: list[bytes] = []
        """Frames to write."""
        self._receive_window = WINDOW + window
        self._passed_on = 0
        self._send_window = WINDOW
        self._peer_stream_window = WINDOW
        self._longest = frames.LONGEST

    def waits(self) -> None:
        """Something begins to wait for the other side."""

    def begin_stream(self) -> int:
        """The number of a new stream, of a client's connection."""
        self.highest_stream += 2 if self.highest_stream else 1
        self._states[self.highest_stream] = StreamState(self._peer_stream_window, self._stream_window)
        return self.highest_stream

    def send_headers(self, stream: int, headers: Headers, *, end: bool, on_sent: Callable[[int], None]) -> None:
        """Begin a stream, or answer one. `on_sent` is called with what `send` was given once the piece is sent."""
        if (state := self._states.get(stream)) is None:
            return  # the other side has ended it
        self._put_headers(stream, headers, end=end)
        if end:
            self._close_half(stream, state, sent=True)
        else:
            self._outgoing[stream] = Outgoing(on_sent)

    def _put_headers(self, stream: int, headers: Headers, *, end: bool) -> None:
        self._made.append(frames.header_frames(stream, self._blocks.encode(headers), self._longest, end=end))

    def send(self, stream: int, piece: bytes, counted: int) -> None:
        """Send bytes as the other side's windows allow."""
        out, state = self._outgoing.get(stream), self._states.get(stream)
        if out is None:
            return
        if not out.pieces and state is not None and self._passes(len(piece), state):
            self._put_data(stream, state, piece, 0)
            out.on_sent(counted)
            return
        if out.pieces and len(out.pieces[-1][0]) < SMALL and (len(out.pieces) > 1 or not out.at):
            last, before = out.pieces.pop()
            piece, counted = last + piece, before + counted
        out.pieces.append((piece, counted))
        self._pump(stream)

    def _passes(self, size: int, state: StreamState) -> bool:
        """Whether the other side takes so many bytes now, in one frame."""
        fits = size <= self._send_window and size <= state.send_window and size <= self._longest
        return fits and self.writable and self.transport is not None

    def _put_data(self, stream: int, state: StreamState, piece: bytes, flags: int) -> None:
        self._send_window -= len(piece)
        state.send_window -= len(piece)
        self._made.append(frames.frame(frames.DATA, flags, stream, piece))

    def finish(self, stream: int, trailers: Headers) -> None:
        """End this side of a stream after all that is to be sent, with trailers or without."""
        if (out := self._outgoing.get(stream)) is not None:
            out.end = True
            out.trailers = trailers
            self._pump(stream)

    def sends_on(self, stream: int) -> bool:
        """Whether something of this side is still to be sent, trailers included."""
        return stream in self._outgoing

    def acknowledge(self, stream: int, counted: int) -> None:
        """Bytes of a stream were passed on: its sender may send more."""
        if not counted or self.transport is None:
            return
        self._give_back(counted)
        state = self._states.get(stream)
        if state is None or state.received_all:
            return
        state.passed_on += counted
        if 2 * state.passed_on >= self._stream_window:
            self._made.append(frames.window_update(stream, state.passed_on))
            state.receive_window += state.passed_on
            state.passed_on = 0

    def _give_back(self, counted: int) -> None:
        """Let the other side send so many bytes more, in one frame for half a window."""
        self._passed_on += counted
        if 2 * self._passed_on >= self._window:
            self._made.append(frames.window_update(0, self._passed_on))
            self._receive_window += self._passed_on
            self._passed_on = 0

    def reset(self, stream: int, code: ErrorCode) -> None:
        """End a stream at once, unless it has ended."""
        self.streams.pop(stream, None)
        self._drop(stream)
        if self._states.pop(stream, None) is not None and self.transport is not None:
            self._made.append(frames.rst_stream(stream, code))

    def _close_half(self, stream: int, state: StreamState, *, sent: bool) -> None:
        """One side has sent all: this one, or the other."""
        if sent:
            state.sent_all = True
        else:
            state.received_all = True
        if state.sent_all and state.received_all:
            self._states.pop(stream, None)

    def _drop(self, stream: int) -> None:
        """Send nothing more of a stream. What is left counts as passed on: the windows of its sender are for others."""
        out = self._outgoing.pop(stream, None)
        if out is not None:
            for _, counted in out.pieces:
                out.on_sent(counted)

    def settle(self, stream: int) -> None:
        """Count what waits on a stream as passed on: its sender is done, and that one's windows are for others."""
        if (out := self._outgoing.get(stream)) is not None:
            waiting = sum([counted for _, counted in out.pieces])
            out.pieces = deque([(piece, 0) for piece, _ in out.pieces])
            out.on_sent(waiting)

    def ping(self, eight_bytes: bytes) -> None:
        """Ask whether the other side is there."""
        self._made.append(frames.frame(frames.PING, 0, 0, eight_bytes))

    def say_goodbye(self, last: int) -> None:
        """Serve no streams after this one."""
        self._made.append(frames.goaway(last))

    def flush(self) -> None:
        """Write the frames that were made."""
        if self._made and self.transport is not None and not self.transport.is_closing():
            written = self._made[0] if len(self._made) == 1 else b"".join(self._made)
            self._made.clear()
            self.transport.write(written)

    def close(self) -> None:
        """Close the connection after what was written."""
        if self.transport is not None:
            self.transport.close()

    def _pump_all(self) -> None:
        for stream in list(self._outgoing):
            self._pump(stream)

    def _pump(self, stream: int) -> None:
        out, state = self._outgoing.get(stream), self._states.get(stream)
        if out is None or state is None or self.transport is None:
            return
        self._send_now(stream, out, state)
        if not out.pieces:
            out.waits_since = 0.0
        elif not out.waits_since:
            out.waits_since = asyncio.get_running_loop().time()
            self.waits()

    def _send_now(self, stream: int, out: Outgoing, state: StreamState) -> None:
        last = out.end and not out.trailers
        while out.pieces and self.writable:
            piece, counted = out.pieces[0]
            left, room = len(piece) - out.at, max(0, min(self._send_window, state.send_window, self._longest))
            if left and not room:
                return
            whole = left <= room
            sent = piece if whole and not out.at else piece[out.at : out.at + room]
            out.waits_since = 0.0
            ends = last and whole and len(out.pieces) == 1
            self._put_data(stream, state, sent, frames.END_STREAM if ends else 0)
            if not whole:
                out.at += room
                continue
            out.at = 0
            out.pieces.popleft()
            out.on_sent(counted)
            if ends:
                del self._outgoing[stream]
                self._close_half(stream, state, sent=True)
                return
        if out.end and not out.pieces:
            del self._outgoing[stream]
            if out.trailers:
                self._put_headers(stream, out.trailers, end=True)
            else:
                self._made.append(frames.frame(frames.DATA, frames.END_STREAM, stream, b""))
            self._close_half(stream, state, sent=True)
