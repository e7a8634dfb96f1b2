"""Records the gateway's own traffic, so that `turnout simulate` can replay it. Off unless a path is set.

A `RecordingRelay` stands between a pod's connection and the relay, passes the answer on, and puts a value into a queue.
Once a second a thread formats the queue as lines (`format.py`) and writes them: the event loop never waits for a disk.
Where the disk cannot keep up, the newest records are dropped and counted.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Final, Protocol

from router.dataplane.exchange import Exchange
from router.dataplane.http.response_parser import ResponseHead
from router.dataplane.http.upstream_connection import UpstreamConnection
from router.dataplane.relay import Relay
from router.errors import PodFailure
from router.recording.format import TAIL_BYTES, RecordedRequest, append, line
from router.settings import Recording

WRITE_S: Final = 1.0
MAX_WAITING: Final = 100_000
"""Requests that may wait for the disk."""

_log = logging.getLogger("turnout.recorder")


class RecordSink(Protocol):
    """Takes the requests that a `RecordingRelay` has seen."""

    def note(self, request: RecordedRequest, /) -> None:
        """Take a request whose answer is complete."""


class RecordingRelay:
    """A `Receiver` that passes everything on to the relay."""

    __slots__ = ("_body_bytes", "_events", "_exchange", "_first_at", "_relay", "_sink", "_tail", "_wall")

    def __init__(self, sink: RecordSink, exchange: Exchange, relay: Relay, wall: Callable[[], float]) -> None:
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
            self._sink.note(self._finished())
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


class Recorder:
    """The queue, and the thread that empties it."""

    def __init__(self, settings: Recording, wall: Callable[[], float] = time.time) -> None:
        self._path = Path(settings.path)
        self._max_bytes = settings.max_bytes
        self._wall = wall
        self._waiting: deque[RecordedRequest] = deque()
        self._dropped = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="recorder", daemon=True)

    def tap(self, exchange: Exchange, relay: Relay) -> RecordingRelay:
        """The receiver for a pod's connection, in front of the relay."""
        return RecordingRelay(self, exchange, relay, self._wall)

    def note(self, request: RecordedRequest, /) -> None:
        """Keep a request until the next write. Called on the event loop."""
        if len(self._waiting) < MAX_WAITING:
            self._waiting.append(request)
        else:
            self._dropped += 1

    def start(self) -> None:
        """Start the thread that writes."""
        self._thread.start()

    def stop(self) -> None:
        """Write what is queued and end the thread. Blocks for at most one write."""
        self._stop.set()
        if self._thread.ident is not None:
            self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(WRITE_S):
            self.write()
        self.write()

    def write(self) -> None:
        """Write what is queued; requests that cannot be written are lost, and their number is logged."""
        requests = [self._waiting.popleft() for _ in range(len(self._waiting))]
        dropped, self._dropped = self._dropped, 0
        if requests:
            try:
                append(self._path, map(line, requests), self._max_bytes)
            except OSError as error:
                _log.warning("%d requests were not recorded: %s", len(requests), error)
        if dropped:
            _log.warning("%d requests were not recorded: the disk did not keep up", dropped)
