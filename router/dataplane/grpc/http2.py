"""One HTTP/2 connection, of either side: h2 reads and writes frames, and here are queues for bodies that wait for the
other side's window, and flow control from end to end. Knows no call.

Bytes of a stream are acknowledged when they have been passed on, so that a slow reader stops its sender and at most a
window of each stream is held. One stream of many does not stop the others: the connection's own window is larger.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any, Final, Protocol, cast

from h2 import events
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.exceptions import FrameTooLargeError, H2Error, ProtocolError, StreamClosedError

from router.dataplane.grpc.status import Headers

CONNECTION_WINDOW: Final = 1 << 20
"""Bytes that may be under way on a connection and not passed on; 64 KB of each stream."""

LAST_ID: Final = (1 << 31) - 1
"""What a GOAWAY names that comes before the last one: no new streams, all of those that there are."""


_HEAD: Final = 9
_GOAWAY: Final = 7
_LONGEST: Final = 1 << 14
"""Bytes of a frame's head, its type, and the longest frame, as is the default."""


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


class _Outgoing:
    """What is to be sent on one stream."""

    __slots__ = ("end", "on_sent", "pieces", "trailers")

    def __init__(self, on_sent: Callable[[int], None]) -> None:
        self.on_sent = on_sent
        self.pieces: deque[tuple[bytes, int]] = deque()
        self.end = False
        self.trailers: Headers = []


class Http2Connection(asyncio.Protocol):
    """The protocol of a transport."""

    window = CONNECTION_WINDOW

    def __init__(self, *, client: bool) -> None:
        # Headers are passed on and not made here: h2 would check them once more on their way out.
        config = H2Configuration(client_side=client, header_encoding=False, validate_outbound_headers=False)
        self.h2 = H2Connection(config)
        self.transport: asyncio.Transport | None = None
        self.streams: dict[int, StreamEvents] = {}
        self.writable = True
        self._part = b""
        """The beginning of a frame."""
        self._outgoing: dict[int, _Outgoing] = {}
        self._handlers: dict[type[events.Event], Callable[[Any], None]] = {
            events.RequestReceived: self._headers,
            events.ResponseReceived: self._headers,
            events.TrailersReceived: self._headers,
            events.DataReceived: self._data,
            events.StreamReset: self._reset,
            events.WindowUpdated: self._window,
            events.RemoteSettingsChanged: lambda _: self._pump_all(),
            events.PingAckReceived: lambda _: self.pinged(),
            events.ConnectionTerminated: lambda _: self.close(),
        }

    # Events

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The connection is there."""
        self.transport = cast(asyncio.Transport, transport)
        self.h2.initiate_connection()
        self.h2.increment_flow_control_window(self.window)
        self.flush()

    def data_received(self, data: bytes) -> None:
        """Bytes of frames."""
        try:
            for event in self.h2.receive_data(self._whole_frames(data)):
                handler = self._handlers.get(type(event))
                if handler is not None:
                    handler(event)
        except ProtocolError:
            self.flush()  # h2 has made the GOAWAY that says why
            self.close()
        self.flush()

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is gone, and all of its streams."""
        self.transport = None
        for stream in list(self._outgoing):
            self._drop(stream)
        streams, self.streams = self.streams, {}
        for taker in streams.values():
            taker.reset(ErrorCodes.CONNECT_ERROR)

    def pause_writing(self) -> None:
        """The other side does not read."""
        self.writable = False

    def resume_writing(self) -> None:
        """It reads again."""
        self.writable = True
        self._pump_all()
        self.flush()

    def began(self, stream: int, headers: Headers, *, ended: bool) -> None:
        """A stream of the other side began; a client's connection has none."""

    def pinged(self) -> None:
        """An answer to a ping came."""

    def said_goodbye(self, last: int) -> None:
        """The other side begins, and takes, no streams after this one."""

    def _whole_frames(self, data: bytes) -> bytes:
        """The whole frames of what came, without GOAWAY, which h2 takes for the end of the connection, though streams
        go on after it. Raises FrameTooLargeError at once: h2 would wait for all of a frame of 16 MB."""
        data = self._part + data
        passed, at = list[bytes](), 0
        while len(data) >= at + _HEAD:
            length = int.from_bytes(data[at : at + 3])
            if length > _LONGEST:
                raise FrameTooLargeError("a frame of more bytes than were offered")
            end = at + _HEAD + length
            if end > len(data):
                break
            if data[at + 3] == _GOAWAY:
                self.said_goodbye(int.from_bytes(data[at + _HEAD : at + _HEAD + 4]) & LAST_ID)
            else:
                passed.append(data[at:end])
            at = end
        self._part = data[at:]
        return b"".join(passed)

    def _headers(self, event: events.RequestReceived | events.ResponseReceived | events.TrailersReceived) -> None:
        stream, headers = event.stream_id, event.headers
        ended = event.stream_ended is not None
        if isinstance(event, events.RequestReceived):
            self.began(stream, headers, ended=ended)
        elif stream in self.streams:
            self.streams[stream].headers(headers, ended=ended)

    def _data(self, event: events.DataReceived) -> None:
        stream, counted = event.stream_id, event.flow_controlled_length
        taker = self.streams.get(stream)
        if taker is None:
            self.acknowledge(stream, counted)
            return
        taker.data(event.data, counted)
        if event.stream_ended is not None:
            taker.ended()

    def _reset(self, event: events.StreamReset) -> None:
        taker = self.streams.pop(event.stream_id, None)
        self._drop(event.stream_id)
        if taker is not None:
            taker.reset(int(event.error_code or 0))

    def _window(self, event: events.WindowUpdated) -> None:
        if event.stream_id:
            self._pump(event.stream_id)
        else:
            self._pump_all()

    # Sending. Each call is followed by a flush at the end of the event that led to it.

    def send_headers(self, stream: int, headers: Headers, *, end: bool, on_sent: Callable[[int], None]) -> None:
        """Begin a stream, or answer one. `on_sent` is called with what `send` was given once the piece is sent."""
        try:
            self.h2.send_headers(stream, headers, end_stream=end)
        except StreamClosedError:
            return  # the other side's reset is among the events that follow
        if not end:
            self._outgoing[stream] = _Outgoing(on_sent)

    def send(self, stream: int, piece: bytes, counted: int) -> None:
        """Send bytes as the other side's windows allow."""
        if stream in self._outgoing:
            self._outgoing[stream].pieces.append((piece, counted))
            self._pump(stream)

    def finish(self, stream: int, trailers: Headers) -> None:
        """End this side of a stream after all that is to be sent, with trailers or without."""
        if stream in self._outgoing:
            self._outgoing[stream].end = True
            self._outgoing[stream].trailers = trailers
            self._pump(stream)

    def sends_on(self, stream: int) -> bool:
        """Whether something of this side is still to be sent, trailers included."""
        return stream in self._outgoing

    def acknowledge(self, stream: int, counted: int) -> None:
        """Bytes of a stream were passed on: its sender may send more."""
        if counted and self.transport is not None:
            self.h2.acknowledge_received_data(counted, stream)

    def reset(self, stream: int, code: ErrorCodes) -> None:
        """End a stream at once, unless it has ended."""
        self.streams.pop(stream, None)
        self._drop(stream)
        if self.transport is not None:
            try:
                self.h2.reset_stream(stream, code)
            except H2Error:
                return  # it has ended, or the connection is closing

    def _drop(self, stream: int) -> None:
        """Send nothing more of a stream. What is left counts as passed on: the windows of its sender are for others."""
        out = self._outgoing.pop(stream, None)
        for _, counted in out.pieces if out is not None else ():
            assert out is not None
            out.on_sent(counted)

    def settle(self, stream: int) -> None:
        """Count what waits on a stream as passed on: its sender is done, and that one's windows are for others."""
        if (out := self._outgoing.get(stream)) is not None:
            waiting = sum(counted for _, counted in out.pieces)
            out.pieces = deque((piece, 0) for piece, _ in out.pieces)
            out.on_sent(waiting)

    def flush(self) -> None:
        """Write the frames that were made."""
        frames = self.h2.data_to_send()
        if frames and self.transport is not None and not self.transport.is_closing():
            self.transport.write(frames)

    def close(self) -> None:
        """Close the connection after what was written."""
        if self.transport is not None:
            self.transport.close()

    def _pump_all(self) -> None:
        for stream in list(self._outgoing):
            self._pump(stream)

    def _pump(self, stream: int) -> None:
        out = self._outgoing.get(stream)
        if out is None or self.transport is None:
            return
        try:
            self._send_now(stream, out)
        except StreamClosedError:
            self._drop(stream)  # as above

    def _send_now(self, stream: int, out: _Outgoing) -> None:
        while out.pieces and self.writable:
            piece, counted = out.pieces[0]
            room = min(self.h2.local_flow_control_window(stream), self.h2.max_outbound_frame_size)
            if piece and room <= 0:
                return
            self.h2.send_data(stream, piece[:room])
            if len(piece) > room:
                out.pieces[0] = piece[room:], counted
                continue
            out.pieces.popleft()
            out.on_sent(counted)
        if out.end and not out.pieces:
            del self._outgoing[stream]
            if out.trailers:
                self.h2.send_headers(stream, out.trailers, end_stream=True)
            else:
                self.h2.end_stream(stream)


def goaway(last: int) -> bytes:
    """A GOAWAY frame without an error. h2 sends one only to end a connection at once, with its streams."""
    return b"\x00\x00\x08\x07\x00\x00\x00\x00\x00" + last.to_bytes(4) + b"\x00\x00\x00\x00"
