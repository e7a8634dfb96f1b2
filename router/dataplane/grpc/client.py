"""A client's connection that speaks HTTP/2: calls come as streams, and it ends in good order, so that no call is lost
which a client begins meanwhile.

The edge of the connection stays, and keeps what holds for every connection: counts, limits, what slow clients may hold.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final, cast

from router.dataplane.exchange import Exchange
from router.dataplane.grpc.call import GrpcCall
from router.dataplane.grpc.frames import LAST_ID, ErrorCode
from router.dataplane.grpc.http2 import PREFACE, Http2Connection
from router.dataplane.grpc.status import Headers
from router.dataplane.http.deadlines import NEVER
from router.dataplane.http.edge import Edge
from router.errors import Shed

if TYPE_CHECKING:
    from router.dataplane.grpc.port import GrpcPort

LAST_WORDS_S: Final = 1.0
"""Seconds that a client has to acknowledge that the connection ends."""

CANCELS: Final = 1000
"""Calls that a client may cancel on a connection beyond twice those that it does not."""


class FirstBytes(asyncio.Protocol):
    """The protocol of a new connection until it is known whether it speaks HTTP/2."""

    def __init__(self, port: GrpcPort, edge: Edge[Exchange]) -> None:
        self.edge = edge
        self._port = port
        self._seen = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client connected."""
        self.edge.connection_made(cast(asyncio.Transport, transport))

    def data_received(self, data: bytes) -> None:
        """The first bytes."""
        self._seen += data
        transport = self.edge.transport
        if transport is None or (PREFACE.startswith(self._seen) and self._seen != PREFACE):
            return
        if self._seen.startswith(PREFACE) and self.edge.reader is not None:  # else it was refused before
            connection = self._port.connection(self.edge)
            transport.set_protocol(cast(asyncio.Protocol, connection))
            connection.connection_made(transport)
            connection.data_received(self._seen[len(PREFACE) :])
        else:
            transport.set_protocol(cast(asyncio.Protocol, self.edge))
            self.edge.data_received(self._seen)

    def pause_writing(self) -> None:
        """See `Edge`."""
        self.edge.pause_writing()

    def resume_writing(self) -> None:
        """See `Edge`."""
        self.edge.resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        """The client is gone."""
        self.edge.connection_lost(exc)


class ClientConnection(Http2Connection):
    """One client's connection."""

    deadline = 0.0
    """As the edge's current request, which it has for as long as the connection lasts, so that it is never idle."""

    def __init__(self, port: GrpcPort, edge: Edge[Exchange]) -> None:
        super().__init__(client=False)
        self._port = port
        self._edge = edge
        self.leaving = False
        """Whether the client was sent that the connection ends."""
        self._last = LAST_ID
        """The last stream that is served."""
        self._begun = 0
        self._cancelled = 0
        self._idle: asyncio.TimerHandle | None = None
        self._unread: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The client speaks HTTP/2."""
        edge = self._edge
        edge.current, edge.used, edge.expires_at = cast(Any, self), True, NEVER
        self._port.connections.add(self)
        super().connection_made(transport)
        self._rest()
        if edge.listener.stopped:
            self.leave()

    def data_received(self, data: bytes) -> None:
        """Frames of the client."""
        super().data_received(data)
        self._rest()
        try:
            self._edge.held.reading(sum(call.held for call in self._calls_here()))
        except Shed:
            self._edge.abort()

    def _calls_here(self) -> Iterator[GrpcCall]:
        return (call for call in self.streams.values() if isinstance(call, GrpcCall))

    def began(self, stream: int, headers: Headers, *, ended: bool) -> None:
        """A new call."""
        if stream > self._last:
            self.reset(stream, ErrorCode.REFUSED_STREAM)
            return
        call = self._port.take(self, stream, headers)
        if call is None:
            return
        self._begun += 1
        call.complete = ended
        self.streams[stream] = call
        call.begin()

    def cancelled(self) -> None:
        """The client cancelled a call."""
        self._cancelled += 1
        if self._cancelled > CANCELS + 2 * (self._begun - self._cancelled):
            self._edge.abort()  # each costs a pod more than it costs the client

    def pause_writing(self) -> None:
        """The client does not read."""
        super().pause_writing()
        self._edge.pause_writing()

    def resume_writing(self) -> None:
        """It reads again."""
        self._edge.resume_writing()
        super().resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        """The client is gone."""
        self._port.connections.discard(self)
        for timer in (self._idle, self._unread):
            if timer is not None:
                timer.cancel()
        super().connection_lost(exc)
        self._edge.current = None
        self._edge.connection_lost(exc)

    def flush(self) -> None:
        """Write the frames that were made; the client closes after the last call of a connection that ends."""
        super().flush()
        if self._last != LAST_ID and not self.streams and not self._outgoing:
            self.linger()
        elif not self.streams and self._idle is None and self.transport is not None:
            self._rest()  # the last call ended, and its client may say nothing more

    def waits(self) -> None:
        """The client's windows are full. They may be for as long as it may leave any answer unread."""
        limit_s = self._edge.listener.timeouts.client_write_s
        if limit_s and self._unread is None:
            self._unread = asyncio.get_running_loop().call_later(limit_s, self._end_unread)

    def _end_unread(self) -> None:
        loop, limit_s = asyncio.get_running_loop(), self._edge.listener.timeouts.client_write_s
        for stream, out in list(self._outgoing.items()):
            if out.waits_since and out.waits_since + limit_s <= loop.time():
                self._fail(stream, ErrorCode.CANCEL)
        left = [out.waits_since for out in self._outgoing.values() if out.waits_since]
        self._unread = loop.call_at(min(left) + limit_s, self._end_unread) if left else None
        self.flush()

    # The edge's request

    def pause(self) -> None:
        """See `OpenRequest`."""

    def resume(self) -> None:
        """See `OpenRequest`."""

    # The end

    def leave(self) -> None:
        """Have the client begin no more calls here; those that it has begun are served."""
        if self.leaving or self.transport is None:
            return
        self.leaving = True
        self.say_goodbye(LAST_ID)
        self.ping(b"farewell")
        super().flush()
        self._idle = asyncio.get_running_loop().call_later(LAST_WORDS_S, self.pinged)

    def pinged(self) -> None:
        """The client knows: no further calls come, or they are refused unread."""
        if self.leaving and self._last == LAST_ID and self.transport is not None:
            self._last = self.highest_stream
            self.say_goodbye(self._last)
            self.flush()

    def _rest(self) -> None:
        """Close the connection in good order once it had no call for as long as a kept-alive one may."""
        if self.leaving:
            return
        if self._idle is not None:
            self._idle.cancel()
            self._idle = None
        keep_s = self._edge.listener.timeouts.client_keepalive_s
        if not self.streams and keep_s:
            self._idle = asyncio.get_running_loop().call_later(keep_s, self._leave_if_idle)

    def _leave_if_idle(self) -> None:
        if self.streams:
            return
        if self._outgoing or self._broken:
            self._edge.abort()  # it took nothing of its last answers all the time, nor of the last words
        else:
            self.leave()
