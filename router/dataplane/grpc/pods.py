"""HTTP/2 connections to pods: few, each with many calls. A pod that says goodbye (GOAWAY) gets no new calls there, and
those that it did not begin are given back. Knows no policy and no retry.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final, cast

from router.dataplane.grpc.frames import ErrorCode
from router.dataplane.grpc.http2 import Http2Connection
from router.dataplane.grpc.status import Headers
from router.dataplane.grpc.streams import StreamEvents

MOST_STREAMS: Final = 100
"""Calls on one connection, where the pod allows as many; the next ones get another connection."""

LOOK_S: Final = 300.0
"""Seconds between two looks at a connection. gRPC's servers take more frequent pings for an attack."""

ANSWER_S: Final = 20.0
"""Seconds that a pod has to answer a ping."""


class PodConnection(Http2Connection):
    """One connection to a pod."""

    def __init__(self, on_lost: Callable[[PodConnection], None]) -> None:
        # A window for each of its calls: those of clients that do not read leave room for the others.
        super().__init__(client=True, window=MOST_STREAMS << 16)
        self._on_lost = on_lost
        self._leaving = False
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The connection is there."""
        super().connection_made(transport)
        self.pinged()

    def pinged(self) -> None:
        """The pod is there."""
        self._set_timer(LOOK_S, self._look)

    def _look(self) -> None:
        """Close it without a call, which the pod may have left long ago; else see whether the pod's host is there."""
        if not self.streams or self.transport is None:
            self.close()
            return
        self.ping(b"presence")
        self.flush()
        self._set_timer(ANSWER_S, self.transport.abort)

    def _set_timer(self, after_s: float, then: Callable[[], None]) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(after_s, then)

    @property
    def has_room(self) -> bool:
        """Whether it takes another call."""
        if self._leaving or self.transport is None or self.transport.is_closing():
            return False
        return len(self._states) < min(MOST_STREAMS, self.peer_max_streams) and self.highest_stream < 1 << 30

    def open(self, taker: StreamEvents, headers: Headers, on_sent: Callable[[int], None]) -> int:
        """Begin a call; returns its stream."""
        stream = self.begin_stream()
        self.send_headers(stream, headers, end=False, on_sent=on_sent)
        self.streams[stream] = taker
        return stream

    def data_received(self, data: bytes) -> None:
        """Frames of the pod."""
        super().data_received(data)
        self.close_if_idle()

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is gone."""
        if self._timer is not None:
            self._timer.cancel()
        self._on_lost(self)
        super().connection_lost(exc)

    def reset(self, stream: int, code: ErrorCode) -> None:
        """End a call."""
        super().reset(stream, code)
        self.close_if_idle()

    def close_if_idle(self) -> None:
        """Close it after a goodbye, when no call is left."""
        if self._leaving and not self.streams:
            self.flush()
            self.close()

    def said_goodbye(self, last: int) -> None:
        """The pod takes no more calls here. Those that it did not begin are refused."""
        self._leaving = True
        for stream in [stream for stream in self.streams if stream > last]:
            self._drop(stream)
            self.streams.pop(stream).reset(ErrorCode.REFUSED_STREAM)


Dial = Callable[[Callable[[], asyncio.Protocol], str, str], Awaitable[None]]
"""See `Accesses.dial`."""


class PodConnections:
    """The connections to all pods, by pool and address."""

    def __init__(self, dial: Dial) -> None:
        self._dial = dial
        self._open: dict[tuple[str, str], list[PodConnection]] = {}
        self._opening: dict[tuple[str, str], asyncio.Lock] = {}

    def ready(self, pool: str, address: str) -> PodConnection | None:
        """A connection that takes another call."""
        return next((each for each in self._open.get((pool, address), ()) if each.has_room), None)

    async def connected(self, pool: str, address: str, within_s: float) -> PodConnection:
        """The same, or a new one. Raises OSError, of which TimeoutError is one."""
        key = (pool, address)
        lock = self._opening.setdefault(key, asyncio.Lock())
        try:
            async with asyncio.timeout(within_s), lock:  # calls that come together share the connection
                if (found := self.ready(pool, address)) is not None:
                    return found
                made = PodConnection(lambda lost: self._lost(key, lost))
                protocol = cast(asyncio.Protocol, made)  # by its methods
                await self._dial(lambda: protocol, address, pool)
        except ValueError as error:
            raise OSError(str(error)) from None
        finally:
            if not lock.locked():
                self._opening.pop(key, None)
        self._open.setdefault(key, []).append(made)
        return made

    def _lost(self, key: tuple[str, str], lost: PodConnection) -> None:
        kept = [each for each in self._open.get(key, ()) if each is not lost]
        if kept:
            self._open[key] = kept
        else:
            self._open.pop(key, None)

    def close(self) -> None:
        """Close all of them."""
        for connection in [each for found in self._open.values() for each in found]:
            connection.close()
