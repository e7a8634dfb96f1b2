"""Records the gateway's own traffic, so that `turnout simulate` can replay it. Off unless a path is set.

A `RecordingRelay` stands between a pod's connection and the relay, passes the answer on, and puts a value into the
queue of a `LineWriter`. Once a second its thread formats the queue as lines (`format.py`) and writes them.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from router.dataplane.exchange import Exchange
from router.dataplane.http.response_parser import ResponseHead
from router.dataplane.http.upstream_connection import UpstreamConnection
from router.dataplane.relay import Relay
from router.errors import PodFailure
from router.recording.format import TAIL_BYTES, RecordedRequest, line
from router.settings import Recording
from router.telemetry.line_file import LineWriter

WRITE_S: Final = 1.0


class RecordingRelay:
    """A `Receiver` that passes everything on to the relay."""

    __slots__ = ("_body_bytes", "_events", "_exchange", "_first_at", "_relay", "_sink", "_tail", "_wall")

    def __init__(
        self, sink: LineWriter[RecordedRequest], exchange: Exchange, relay: Relay, wall: Callable[[], float]
    ) -> None:
        self._sink = sink
        self._exchange = exchange
        self._relay = relay
        self._wall = wall
        self._first_at = 0.0
        self._events = 0
        self._body_bytes = 0
        self._tail = b""

    def connected(self, connection: UpstreamConnection, /) -> None:
        """Pass on that the request is about to be sent."""
        self._relay.connected(connection)

    def head(self, head: ResponseHead, framing: int, length: int, /) -> bool:
        """Pass the answer's head on."""
        return self._relay.head(head, framing, length)

    def data(self, piece: bytes, safe: int, now: float, /) -> None:
        """Pass a piece on, and keep the answer's end."""
        self._first_at = self._first_at or now
        self._body_bytes += len(piece)
        if self._relay.sse:
            self._events += piece.count(b"data:")
        self._tail = piece[-TAIL_BYTES:] if len(piece) >= TAIL_BYTES else (self._tail + piece)[-TAIL_BYTES:]
        self._relay.data(piece, safe, now)

    def end(self) -> None:
        """Record the request, then pass the end on: the relay clears what is read here."""
        if self._relay.status == 200:
            self._sink.put(self._finished())
        self._relay.end()

    def failed(self, failure: PodFailure, /) -> None:
        """Pass the failure on."""
        self._relay.failed(failure)

    def _finished(self) -> RecordedRequest:
        exchange, placement = self._exchange, self._relay.placement
        info = placement.info
        took_s = exchange.edge.clock() - exchange.arrived
        return RecordedRequest(
            arrived_at=self._wall() - took_s,
            prompt_tokens=info.prompt_tokens,
            chain=exchange.routed.chain,
            session_key=info.session_key,
            ttft_s=self._first_at - exchange.arrived if self._relay.sse else None,
            e2e_s=took_s,
            pod=placement.pod.id,
            events=self._events,
            body_bytes=self._body_bytes,
            tail=self._tail,
        )


class Recorder(LineWriter[RecordedRequest]):
    """What each `RecordingRelay` has seen, on its way to the file."""

    def __init__(self, settings: Recording, wall: Callable[[], float] = time.time) -> None:
        super().__init__(settings.path, settings.max_bytes, line, "records", every_s=WRITE_S)
        self._wall = wall

    def tap(self, exchange: Exchange, relay: Relay) -> RecordingRelay:
        """The receiver for a pod's connection, in front of the relay."""
        return RecordingRelay(self, exchange, relay, self._wall)
