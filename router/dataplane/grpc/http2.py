"""One HTTP/2 connection, of either side, with flow control from end to end: reads frames; `streams.py` sends. Knows no
call.

Bytes of a stream are acknowledged when they have been passed on, so that a slow reader stops its sender and at most a
window of each stream is held. One stream of many does not stop the others: the connection's own window is larger.

The frames are read here and not by a library: in Python alone each costs tens of microseconds, and an endpoint picker
has a dozen for a request. Headers are hpack's (`header_blocks.py`).
"""

from __future__ import annotations

import asyncio
from typing import Final, cast

from router.dataplane.grpc import frames
from router.dataplane.grpc.frames import LAST_ID, WINDOW, ConnectionBroken, ErrorCode
from router.dataplane.grpc.header_blocks import ANSWER, MAX_LIST_BYTES, REQUEST, TRAILERS, length_of
from router.dataplane.grpc.status import Headers
from router.dataplane.grpc.streams import CONNECTION_WINDOW, OpenStreams, StreamState

PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
"""The first bytes of every HTTP/2 connection."""

UNLIMITED: Final = 1 << 32

LINGER_S: Final = 1.0
"""Seconds for the other side to close a connection after a goodbye."""


class Http2Connection(OpenStreams):
    """The protocol of a transport, by its methods."""

    def __init__(
        self,
        *,
        client: bool,
        window: int = CONNECTION_WINDOW,
        stream_window: int = WINDOW,
        max_streams: int = 100,
    ) -> None:
        """`max_streams`: how many a client may have open."""
        super().__init__(client=client, window=window, stream_window=stream_window)
        self.peer_max_streams = UNLIMITED
        self._max_streams = max_streams
        self._part = b""
        """The beginning of a frame."""
        self._block = b""
        self._block_stream = 0
        """Headers whose frames have not all come, and their stream; 0 for none."""
        self._block_ends = False
        self._answered_ping = False
        """An answer to a ping is among these frames. What comes with it was sent before this side can say more."""
        self._greeted = False
        """The other side's settings, its first frame, have come."""
        self._broken = False
        self._lingers: asyncio.TimerHandle | None = None

    # Events of the transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The connection is there."""
        self.transport = cast(asyncio.Transport, transport)
        settings = {frames.MAX_HEADER_LIST_SIZE: MAX_LIST_BYTES, frames.INITIAL_WINDOW_SIZE: self._stream_window}
        if self._client:
            self._made.append(PREFACE)
            settings[frames.ENABLE_PUSH] = 0
        else:
            settings[frames.MAX_CONCURRENT_STREAMS] = self._max_streams
        self._made.append(frames.settings(settings))
        self._made.append(frames.window_update(0, self._window))
        self.flush()

    def data_received(self, data: bytes) -> None:
        """Bytes of frames."""
        try:
            self._read(data)
        except ConnectionBroken as broken:
            self._broken = True
            self._made.append(frames.goaway(0 if self._client else self.highest_stream, broken.code))
            self.flush()
            self.close()
            self._end_streams()  # a far end that does not read would keep them
        if self._answered_ping:
            self._answered_ping = False
            self.pinged()
        self.flush()

    def eof_received(self) -> bool:
        """The other side sends no more: the transport closes."""
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is gone, and all of its streams."""
        self.transport = None
        if self._lingers is not None:
            self._lingers.cancel()
        self._end_streams()

    def _end_streams(self) -> None:
        self._states.clear()
        for stream in list(self._outgoing):
            self._drop(stream)
        streams, self.streams = self.streams, {}
        for taker in streams.values():
            taker.reset(ErrorCode.CONNECT_ERROR)

    def pause_writing(self) -> None:
        """The other side does not read."""
        self.writable = False
        if not self._client and self.transport is not None:
            self.transport.pause_reading()  # each frame may be answered by one

    def resume_writing(self) -> None:
        """It reads again."""
        self.writable = True
        if not self._client and self.transport is not None:
            self.transport.resume_reading()
        self._pump_all()
        self.flush()

    def linger(self) -> None:
        """Leave it to the other side, which was sent a goodbye, to close. A close over bytes that are unread, a
        ping or a window, resets the connection, and what was written last is lost (RFC 9112 section 9.6)."""
        if self._lingers is None and self.transport is not None:
            self._lingers = asyncio.get_running_loop().call_later(LINGER_S, self.close)

    # For those that have a connection

    def began(self, stream: int, headers: Headers, *, ended: bool) -> None:
        """A stream of the other side began; a client's connection has none."""

    def cancelled(self) -> None:
        """The other side ended a stream, or had it ended by what it sent."""

    def pinged(self) -> None:
        """An answer to a ping came."""

    def said_goodbye(self, last: int) -> None:
        """The other side begins, and takes, no streams after this one."""

    # Reading

    def _read(self, data: bytes) -> None:
        if self._part:
            data = self._part + data
        at, length = 0, len(data)
        while length - at >= frames.HEAD_BYTES and not self._broken:
            size = data[at] << 16 | data[at + 1] << 8 | data[at + 2]
            if size > frames.LONGEST:
                raise ConnectionBroken(ErrorCode.FRAME_SIZE_ERROR, "a frame of more bytes than were offered")
            begin = at + frames.HEAD_BYTES
            if begin + size > length:
                break
            stream = (data[at + 5] & 0x7F) << 24 | data[at + 6] << 16 | data[at + 7] << 8 | data[at + 8]
            self._frame(data[at + 3], data[at + 4], stream, data[begin : begin + size])
            at = begin + size
        self._part = data[at:]

    def _frame(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        if not self._greeted and (kind != frames.SETTINGS or flags & frames.ACK):
            raise ConnectionBroken(ErrorCode.PROTOCOL_ERROR, "a frame before the settings")
        self._greeted = True
        if self._block_stream and (kind != frames.CONTINUATION or stream != self._block_stream):
            raise ConnectionBroken(ErrorCode.PROTOCOL_ERROR, "a frame among those of one block of headers")
        if kind == frames.DATA:
            self._data(stream, flags, payload)
        elif kind == frames.HEADERS:
            self._look_at(stream)
            self._block_stream, self._block_ends = stream, bool(flags & frames.END_STREAM)
            self._more_headers(flags, frames.unpadded(flags, payload))
        elif kind == frames.CONTINUATION:
            if not self._block_stream:
                raise ConnectionBroken(ErrorCode.PROTOCOL_ERROR, "a continuation of nothing")
            self._more_headers(flags, payload)
        elif kind == frames.WINDOW_UPDATE:
            self._opened(stream, payload)
        elif kind == frames.RST_STREAM:
            self._ended(stream, payload)
        elif kind in (frames.SETTINGS, frames.PING, frames.GOAWAY):
            self._control(kind, flags, stream, payload)
        elif kind == frames.PUSH_PROMISE:
            raise ConnectionBroken(ErrorCode.PROTOCOL_ERROR, "a push that nothing allowed")

    def _control(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        """A frame that is about the whole connection."""
        size = len(payload)
        if stream:
            raise ConnectionBroken(ErrorCode.PROTOCOL_ERROR, "a frame of the connection on a stream")
        if (kind == frames.PING and size != 8) or (kind == frames.GOAWAY and size < 8):
            raise ConnectionBroken(ErrorCode.FRAME_SIZE_ERROR, "a ping or a goodbye of the wrong size")
        if kind == frames.GOAWAY:
            self.said_goodbye(int.from_bytes(payload[:4], "big") & LAST_ID)
        elif kind == frames.SETTINGS:
            self._settings(flags, payload)
        elif flags & frames.ACK:
            self._answered_ping = True
        else:
            self._made.append(frames.frame(frames.PING, frames.ACK, 0, payload))

    def _look_at(self, stream: int) -> None:
        """Look at the number of a stream that headers come for."""
        if stream % 2 == 0 or (self._client and stream > self.highest_stream):
            raise ConnectionBroken(ErrorCode.PROTOCOL_ERROR, "headers of a stream that cannot be")

    def _known(self, stream: int) -> None:
        """Look at the number of a stream that something comes for."""
        if stream % 2 == 0 or stream > self.highest_stream:
            raise ConnectionBroken(ErrorCode.PROTOCOL_ERROR, "a frame of a stream that was not begun")

    def _more_headers(self, flags: int, piece: bytes) -> None:
        self._block += piece
        if len(self._block) > MAX_LIST_BYTES:
            raise ConnectionBroken(ErrorCode.ENHANCE_YOUR_CALM, "headers are too long")
        if flags & frames.END_HEADERS:
            stream, self._block_stream = self._block_stream, 0
            block, self._block = self._block, b""
            self._headers(stream, block, ended=self._block_ends)

    def _headers(self, stream: int, block: bytes, *, ended: bool) -> None:
        state = self._states.get(stream)
        new = stream > self.highest_stream
        kind = REQUEST if new else ANSWER if self._client and (state is None or not state.answered) else TRAILERS
        headers = self._blocks.decode(block, kind)  # those of closed streams too: they change the table
        if new:
            self.highest_stream = stream
            state = self._states[stream] = StreamState(self._peer_stream_window, self._stream_window)
            if len(self._states) > self._max_streams:
                self.reset(stream, ErrorCode.REFUSED_STREAM)
                return
        if state is None:
            return
        if headers is not None and kind != TRAILERS:
            state.promised = length_of(headers)
        if headers is None or state.received_all or (kind == TRAILERS and not ended) or not state.keeps(0, ended=ended):
            self._fail(stream, ErrorCode.PROTOCOL_ERROR)
            return
        if kind == ANSWER:
            if headers[0][1][:1] == b"1":  # more headers follow: this is not yet the answer
                if ended:
                    self._fail(stream, ErrorCode.PROTOCOL_ERROR)
                return
            state.answered = True
        if ended:
            self._close_half(stream, state, sent=False)
        if new:
            self.began(stream, headers, ended=ended)
        elif stream in self.streams:
            self.streams[stream].headers(headers, ended=ended)

    def _data(self, stream: int, flags: int, payload: bytes) -> None:
        self._known(stream)
        counted = len(payload)
        self._receive_window -= counted
        if self._receive_window < 0:
            raise ConnectionBroken(ErrorCode.FLOW_CONTROL_ERROR, "more bytes than the connection's window")
        piece = frames.unpadded(flags & frames.PADDED, payload)
        state = self._states.get(stream)
        if state is None:
            self._give_back(counted)
            return
        state.receive_window -= counted
        ended = bool(flags & frames.END_STREAM)
        over, closed = state.receive_window < 0, state.received_all or (self._client and not state.answered)
        if over or closed or not state.keeps(len(piece), ended=ended):
            code = ErrorCode.STREAM_CLOSED if closed else ErrorCode.PROTOCOL_ERROR
            self._give_back(counted)
            self._fail(stream, ErrorCode.FLOW_CONTROL_ERROR if over else code)
            return
        if ended:
            self._close_half(stream, state, sent=False)
        taker = self.streams.get(stream)
        if taker is None or not piece:  # no window would hold back what is nothing
            self.acknowledge(stream, counted)
        else:
            taker.data(piece, counted)
        if ended and taker is not None:
            taker.ended()

    def _ended(self, stream: int, payload: bytes) -> None:
        self._known(stream)
        if len(payload) != 4:
            raise ConnectionBroken(ErrorCode.FRAME_SIZE_ERROR, "an end of a stream of the wrong size")
        if self._states.pop(stream, None) is not None:
            self.cancelled()
        taker = self.streams.pop(stream, None)
        self._drop(stream)
        if taker is not None:
            taker.reset(int.from_bytes(payload, "big"))

    def _fail(self, stream: int, code: ErrorCode) -> None:
        """End a stream whose other side broke the protocol."""
        taker = self.streams.pop(stream, None)
        self.reset(stream, code)
        self.cancelled()
        if taker is not None:
            taker.reset(code)

    def _opened(self, stream: int, payload: bytes) -> None:
        if len(payload) != 4:
            raise ConnectionBroken(ErrorCode.FRAME_SIZE_ERROR, "a window of the wrong size")
        more = int.from_bytes(payload, "big") & LAST_ID
        if not stream:
            self._send_window += more
            if not more or self._send_window > LAST_ID:
                raise ConnectionBroken(_window_error(more), "a window that cannot be")
            self._pump_all()
            return
        self._known(stream)
        if (state := self._states.get(stream)) is not None:
            state.send_window += more
            if not more or state.send_window > LAST_ID:
                self._fail(stream, _window_error(more))
            else:
                self._pump(stream)

    def _settings(self, flags: int, payload: bytes) -> None:
        if len(payload) % 6 or (flags & frames.ACK and payload):
            raise ConnectionBroken(ErrorCode.FRAME_SIZE_ERROR, "settings of the wrong size")
        if flags & frames.ACK:
            return
        for at in range(0, len(payload), 6):
            name, value = int.from_bytes(payload[at : at + 2], "big"), int.from_bytes(payload[at + 2 : at + 6], "big")
            if name == frames.INITIAL_WINDOW_SIZE:
                self._resize(value)
            elif name == frames.MAX_CONCURRENT_STREAMS:
                self.peer_max_streams = value
            elif name == frames.HEADER_TABLE_SIZE:
                self._blocks.limit_table(value)
            elif name == frames.ENABLE_PUSH and value > (0 if self._client else 1):
                raise ConnectionBroken(ErrorCode.PROTOCOL_ERROR, "a push that cannot be")
            elif name == frames.MAX_FRAME_SIZE:
                if not frames.LONGEST <= value < 1 << 24:
                    raise ConnectionBroken(ErrorCode.PROTOCOL_ERROR, "a frame size that cannot be")
                self._longest = value
        self._made.append(frames.frame(frames.SETTINGS, frames.ACK, 0, b""))
        self._pump_all()

    def _resize(self, window: int) -> None:
        """The other side's windows of streams, those that are open included, have this size."""
        more, self._peer_stream_window = window - self._peer_stream_window, window
        for state in self._states.values():
            state.send_window += more
        if max([window, *[state.send_window for state in self._states.values()]]) > LAST_ID:
            raise ConnectionBroken(ErrorCode.FLOW_CONTROL_ERROR, "a window that cannot be")


def _window_error(more: int) -> ErrorCode:
    return ErrorCode.FLOW_CONTROL_ERROR if more else ErrorCode.PROTOCOL_ERROR
