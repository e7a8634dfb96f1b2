"""gRPC over HTTP/2, the server's side: connections and calls. h2 reads and writes frames; knows no field of a message.

A connection is an asyncio protocol on the gateway's own loop: a call costs no task, no thread and no copy between them.
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Callable
from typing import Final, Protocol, cast

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.events import DataReceived, Event, RequestReceived, StreamEnded, StreamReset, WindowUpdated
from h2.exceptions import ProtocolError, StreamClosedError
from h2.settings import SettingCodes
from hyperframe.frame import GoAwayFrame

OK, NOT_FOUND, UNIMPLEMENTED, INTERNAL = 0, 5, 12, 13
"""Statuses of gRPC."""

WINDOW_BYTES: Final = 1 << 24
"""That a peer may send before it is acknowledged, which is done at once: bodies are limited by the gateway."""

MAX_STREAMS: Final = 1 << 20
"""Open calls of one connection; the gateway has limits of its own."""

_PREFIX: Final = struct.Struct(">?I")
_HEAD: Final = [(b":status", b"200"), (b"content-type", b"application/grpc")]
_CONFIG: Final = H2Configuration(
    client_side=False,
    header_encoding=None,
    validate_outbound_headers=False,
    normalize_outbound_headers=False,
    split_outbound_cookies=False,
)


class CallHandler(Protocol):
    """What answers a call."""

    def message(self, data: bytes, /) -> None:
        """One message of the client's."""

    def end(self) -> None:
        """The client sends no more."""

    def lost(self) -> None:
        """The call is cancelled."""


class ServerCall:
    """One call, for its handler: messages out, then the status."""

    def __init__(self, connection: GrpcConnection, number: int) -> None:
        self.number = number
        self.connection = connection
        self.handler: CallHandler | None = None
        self.received = b""
        """The beginning of a message."""
        self.waiting = b""
        """Bytes that the peer has not let in yet."""
        self.begun = False
        self.trailers: list[tuple[bytes, bytes]] | None = None

    def send(self, message: bytes) -> None:
        """Send a message."""
        self.waiting += _PREFIX.pack(False, len(message)) + message
        self.connection.write(self)

    def finish(self, status: int = OK, text: str = "") -> None:
        """End the call, after the messages before."""
        if self.trailers is None:
            self.trailers = [(b"grpc-status", b"%d" % status)]
            if text:
                self.trailers.append((b"grpc-message", text.encode("ascii", "replace")))
            self.connection.write(self)

    def take(self, data: bytes) -> list[bytes]:
        """The messages that are whole with these bytes."""
        data, whole = self.received + data, []
        while len(data) >= _PREFIX.size:
            compressed, size = _PREFIX.unpack_from(data)
            if compressed:
                self.finish(UNIMPLEMENTED, "compressed messages are not read here")
                return []
            end = _PREFIX.size + size
            if len(data) < end:
                break
            whole.append(data[_PREFIX.size : end])
            data = data[end:]
        self.received = data
        return whole


OpenCall = Callable[[str, ServerCall, str], CallHandler | None]
"""Makes the handler of a call to this path, from a peer with this address; None where there is no such method."""


class GrpcConnection(asyncio.Protocol):
    """One client's connection."""

    def __init__(self, begin: OpenCall, connections: set[GrpcConnection]) -> None:
        """`connections` has the open ones."""
        self._begin = begin
        self._connections = connections
        self._h2 = H2Connection(_CONFIG)
        self._transport: asyncio.Transport | None = None
        self._calls: dict[int, ServerCall] = {}
        self._peer = ""
        self._flushing = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client connected."""
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is none by its type
        name = transport.get_extra_info("peername")
        self._peer = str(name[0]) if isinstance(name, tuple) else ""
        self._connections.add(self)
        self._h2.initiate_connection()
        self._h2.update_settings(
            {SettingCodes.INITIAL_WINDOW_SIZE: WINDOW_BYTES, SettingCodes.MAX_CONCURRENT_STREAMS: MAX_STREAMS}
        )
        self._h2.increment_flow_control_window(WINDOW_BYTES)
        self._flush()

    def connection_lost(self, exc: Exception | None) -> None:
        """The client is gone, and its calls with it."""
        self._transport = None
        self._connections.discard(self)
        calls, self._calls = list(self._calls.values()), {}
        for call in calls:
            if call.handler is not None:
                call.handler.lost()

    def data_received(self, data: bytes) -> None:
        """Bytes from the client."""
        self._flushing = True  # once, at the end
        try:
            for event in self._h2.receive_data(data):
                self._take(event)
        except ProtocolError:
            self._flush()
            self.close()
            return
        self._flush()

    def _take(self, event: Event) -> None:
        if isinstance(event, DataReceived):
            self._h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            call = self._calls.get(event.stream_id)
            if call is not None and call.handler is not None:
                for message in call.take(event.data):
                    call.handler.message(message)
        elif isinstance(event, RequestReceived):
            self._open(event)
        elif isinstance(event, StreamEnded):
            call = self._calls.get(event.stream_id)
            if call is not None and call.handler is not None:
                call.handler.end()
        elif isinstance(event, StreamReset):
            call = self._calls.pop(event.stream_id, None)
            if call is not None and call.handler is not None:
                call.handler.lost()
        elif isinstance(event, WindowUpdated):
            ids = [event.stream_id] if event.stream_id else list(self._calls)
            for number in ids:
                if (call := self._calls.get(number)) is not None and call.waiting:
                    self.write(call)

    def _open(self, event: RequestReceived) -> None:
        call = self._calls[event.stream_id] = ServerCall(self, event.stream_id)
        path = dict(event.headers).get(b":path", b"").decode("latin-1")
        call.handler = self._begin(path, call, self._peer)
        if call.handler is None:
            call.finish(UNIMPLEMENTED, f"no method {path}")

    def write(self, call: ServerCall) -> None:
        """Send what waits, as far as the client lets it in, and the end after it."""
        number, h2 = call.number, self._h2
        if self._calls.get(number) is not call:
            return  # reset, or ended
        try:
            if not call.begun:
                call.begun = True
                h2.send_headers(number, _HEAD)
            while call.waiting:
                room = min(h2.local_flow_control_window(number), h2.max_outbound_frame_size)
                if room <= 0:
                    break
                h2.send_data(number, call.waiting[:room])
                call.waiting = call.waiting[room:]
            if call.trailers is not None and not call.waiting:
                h2.send_headers(number, call.trailers, end_stream=True)
                del self._calls[number]
        except StreamClosedError:
            self._calls.pop(number, None)  # the client's reset is among the events that follow
        if not self._flushing:
            self._flushing = True
            asyncio.get_running_loop().call_soon(self._flush)

    def _flush(self) -> None:
        self._flushing = False
        data = self._h2.data_to_send()
        if data and self._transport is not None:
            self._transport.write(data)

    def go_away(self) -> None:
        """Have the client open its next calls elsewhere; those that are open, or under way here, go on. h2 itself would
        end them."""
        frame = GoAwayFrame(stream_id=0, last_stream_id=(1 << 31) - 1, error_code=ErrorCodes.NO_ERROR)
        if self._transport is not None:
            self._transport.write(frame.serialize())

    def close(self) -> None:
        """Close the connection, with what was written sent."""
        if self._transport is not None:
            self._transport.close()
