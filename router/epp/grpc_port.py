"""gRPC's messages on one connection of a server: calls to handlers, answers back. `Http2Connection` has frames and
windows; nothing here knows a field of a message.

A connection is an asyncio protocol on the gateway's own loop: a call costs no task, no thread and no copy between them.
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Callable
from typing import Final, Protocol

from router.dataplane.grpc.frames import LAST_ID, ErrorCode
from router.dataplane.grpc.http2 import PREFACE, Http2Connection
from router.dataplane.grpc.status import Headers, Status, trailers
from router.dataplane.grpc.streams import CONNECTION_WINDOW

MAX_STREAMS: Final = 1 << 20
"""Open calls of one connection; the gateway has limits of its own."""

MAX_MESSAGE: Final = 1 << 24
"""Bytes of one message. Envoy's are pieces of a body, 64 KB as a rule, and headers."""

_PREFIX: Final = struct.Struct(">?I")
_HEAD: Final = [(b":status", b"200"), (b"content-type", b"application/grpc")]


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
        self.received = bytearray()
        """The beginning of a message."""
        self.open = True
        """It has neither ended nor been cancelled."""
        self._begun = False

    def send(self, message: bytes) -> None:
        """Send a message."""
        if self.open:
            self._begin()
            self.connection.send(self.number, _PREFIX.pack(False, len(message)) + message, 0)
            self.connection.flush_soon()

    def finish(self, status: Status = Status.OK, text: str = "") -> None:
        """End the call, after the messages before."""
        if self.open:
            self._begin()
            self._close()
            del self.connection.streams[self.number]
            self.connection.finish(self.number, trailers(status, text))
            self.connection.flush_soon()

    def _close(self) -> None:
        self.open, self.handler = False, None

    def _begin(self) -> None:
        if not self._begun:
            self._begun = True
            self.connection.send_headers(self.number, _HEAD, end=False, on_sent=_nothing)

    # As StreamEvents

    def headers(self, headers: Headers, /, *, ended: bool) -> None:
        """Trailers of the client's."""
        if ended:
            self.ended()

    def data(self, piece: bytes, counted: int, /) -> None:
        """Bytes of messages. They are let in at once: the gateway limits bodies."""
        self.connection.acknowledge(self.number, counted)
        for message in self.take(piece):
            if self.handler is not None and self.open:
                self.handler.message(message)

    def ended(self) -> None:
        """The client sends no more."""
        if self.handler is not None and self.open:
            self.handler.end()

    def reset(self, code: int, /) -> None:
        """The client cancelled the call, or is gone."""
        handler = self.handler
        self._close()
        if handler is not None:
            handler.lost()

    def take(self, data: bytes) -> list[bytes]:
        """The messages that are whole with these bytes."""
        received, whole, at = self.received, list[bytes](), 0
        if not received and len(data) >= _PREFIX.size and not data[0]:
            if data[1] << 24 | data[2] << 16 | data[3] << 8 | data[4] == len(data) - _PREFIX.size:
                return [data[5:]]  # one message in one piece, as Envoy sends them
        received += data
        while len(received) >= at + _PREFIX.size:
            compressed, size = _PREFIX.unpack_from(received, at)
            if compressed or size > MAX_MESSAGE:
                self._refuse("compressed messages are not read here" if compressed else "the message is too long")
                return whole
            end = at + _PREFIX.size + size
            if len(received) < end:
                break
            whole.append(bytes(received[at + _PREFIX.size : end]))
            at = end
        del received[:at]
        return whole

    def _refuse(self, text: str) -> None:
        self.received.clear()
        if self.handler is not None:
            self.handler.lost()
        self.finish(Status.UNIMPLEMENTED, text)
        self.connection.reset(self.number, ErrorCode.NO_ERROR)


OpenCall = Callable[[str, ServerCall, str], CallHandler | None]
"""Makes the handler of a call to this path, from a peer with this address; None where there is no such method."""


class GrpcConnection(Http2Connection):
    """One client's connection."""

    def __init__(self, begin: OpenCall, connections: set[GrpcConnection]) -> None:
        """`connections` has the open ones."""
        super().__init__(client=False, stream_window=CONNECTION_WINDOW, max_streams=MAX_STREAMS)
        self._begin = begin
        self._connections = connections
        self._peer = ""
        self._first: bytes | None = b""
        """The first bytes until all of the preface is there, None from then on."""
        self._flushing = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client connected."""
        name = transport.get_extra_info("peername")
        self._peer = str(name[0]) if isinstance(name, tuple) else ""
        self._connections.add(self)
        super().connection_made(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """The client is gone, and its calls with it."""
        self._connections.discard(self)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Bytes from the client."""
        if self._first is not None:
            self._first += data
            if not self._first.startswith(PREFACE):
                if not PREFACE.startswith(self._first):
                    self.close()
                return
            data, self._first = self._first[len(PREFACE) :], None
        self._flushing = True  # once, at the end
        super().data_received(data)
        self._flushing = False

    def began(self, stream: int, headers: Headers, *, ended: bool) -> None:
        """A new call."""
        if self._lingers is not None:
            self.reset(stream, ErrorCode.REFUSED_STREAM)  # sent before the goodbye was read
            return
        call = self.streams[stream] = ServerCall(self, stream)
        [path] = [value.decode("latin-1") for name, value in headers if name == b":path"]  # HTTP/2 has checked it
        call.handler = self._begin(path, call, self._peer)
        if call.handler is None:
            call.finish(Status.UNIMPLEMENTED, f"no method {path}")
        elif ended:
            call.ended()

    def flush_soon(self) -> None:
        """Write what was made, with all else that is made in this turn of the loop."""
        if not self._flushing:
            self._flushing = True
            asyncio.get_running_loop().call_soon(self._flush_now)

    def _flush_now(self) -> None:
        self._flushing = False
        self.flush()

    def end(self) -> None:
        """End the connection. Calls that are open end in good order: what they were for is over."""
        for call in list(self.streams.values()):
            if isinstance(call, ServerCall):
                call.ended()
        self.say_goodbye(self.highest_stream)
        self.flush()
        self.linger()

    def go_away(self) -> None:
        """Have the client open its next calls elsewhere; those that are open, or under way here, go on."""
        self.say_goodbye(LAST_ID)
        self.flush()


def _nothing(counted: int) -> None:
    """What is sent holds no window of another connection."""
