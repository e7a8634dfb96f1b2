"""The load for streams: thousands open at once, every chunk counted and timed, on asyncio.Protocol and uvloop.

wrk cannot time the chunks of a stream, and `sim/http_client.py` would use more CPU than the core has: it parses every
chunk and keeps it. This client reads no HTTP beyond the status: it counts the byte that stands in each event once and
looks for the end of the chunked body. It runs as a separate program on the load's core:
`python -m loadtests.bench.load.streams ORDER`, where ORDER is a JSON file; it prints a line of JSON. The router's CPU
time and memory are read from /proc at both ends of the counted window.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from pathlib import Path
from time import perf_counter, process_time
from typing import Any, NamedTuple, cast

import uvloop

from loadtests.bench.load.canned import CHUNKS, MARK
from loadtests.bench.load.tally import Tally
from loadtests.processes import procfs
from statesync.tasks import spawn

END = b"0\r\n\r\n"
FIRST_CHUNK_TIMEOUT_S = 10.0
"""Longest wait for the first chunk of every stream, before the window."""
AGAIN_S = 0.05
"""Before a lost connection is opened again."""


class Order(NamedTuple):
    """The generator's input."""

    host: str
    port: int
    requests: list[str]
    """Whole requests, sent in turn."""
    streams: int
    ramp_s: float
    seconds: float
    pids: list[int]
    """The router's processes."""
    engine_pids: list[int]


class Opened:
    """State of all streams: the requests to send, the tally, and the number that have begun."""

    def __init__(self, order: Order) -> None:
        self._order = order
        self._requests = [request.encode() for request in order.requests]
        self._sent = 0
        self.tally = Tally()
        self.begun = 0
        """Streams whose first chunk has arrived."""
        self.all_begun = asyncio.Event()
        self.closing = False
        self._clients: set[StreamClient] = set()

    def next_request(self) -> bytes:
        """The next request."""
        self._sent += 1
        return self._requests[self._sent % len(self._requests)]

    def lost(self, failed: bool = True) -> None:
        """A connection ended during the run: count a failure, and open another."""
        self.tally.failed += failed
        asyncio.get_running_loop().call_later(AGAIN_S, lambda: spawn(self.connect(), "reconnect"))

    def one_begun(self) -> None:
        """A connection's first chunk arrived."""
        self.begun += 1
        if self.begun >= self._order.streams:
            self.all_begun.set()

    def joined(self, client: StreamClient) -> None:
        """A connection was opened."""
        self._clients.add(client)

    def left(self, client: StreamClient) -> None:
        """A connection was closed."""
        self._clients.discard(client)

    async def close(self) -> None:
        """Abort all connections, as clients that leave do."""
        self.closing = True
        for client in [*self._clients]:
            client.abort()
        # The callbacks of the aborts run in the next turn of the loop.
        await asyncio.sleep(0)

    async def connect(self) -> None:
        """Open one stream."""
        loop = asyncio.get_running_loop()
        if self.closing:
            return
        try:
            await loop.create_connection(lambda: StreamClient(self), self._order.host, self._order.port)
        except OSError:
            self.lost()


class StreamClient(asyncio.Protocol):
    """One connection: a stream, and when it ends the next."""

    def __init__(self, opened: Opened) -> None:
        self._opened = opened
        self._transport: asyncio.Transport | None = None
        self._sent_at = 0.0
        self._last = 0.0
        """Arrival of the latest chunk; 0 before a stream's first."""
        self._chunks = 0
        self._tail = b""
        self._began = False
        self._refused = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Request a stream."""
        self._transport = cast(asyncio.Transport, transport)
        self._opened.joined(self)
        self._request()

    def _request(self) -> None:
        self._last, self._chunks, self._tail = 0.0, 0, b""
        self._sent_at = perf_counter()
        if self._transport is not None and not self._opened.closing:
            self._transport.write(self._opened.next_request())

    def data_received(self, data: bytes) -> None:
        """Count and time the chunks in `data`."""
        now = perf_counter()
        tally = self._opened.tally
        if not self._tail and not data.startswith(b"HTTP/1.1 200"):
            self._refuse()
            return
        chunks = data.count(MARK)
        if chunks:
            if self._last:
                tally.gap(now - self._last, chunks)
            else:
                tally.first(now - self._sent_at, chunks)
                self._mark_begun()
            self._last = now
            self._chunks += chunks
        self._tail = data[-5:] if len(data) >= 5 else (self._tail + data)[-5:]
        if self._tail == END:
            tally.ended(self._chunks == CHUNKS)
            self._request()

    def _mark_begun(self) -> None:
        if not self._began:
            self._began = True
            self._opened.one_begun()

    def _refuse(self) -> None:
        self._opened.tally.bad_status += 1
        self._refused = True
        self.abort()

    def abort(self) -> None:
        """Close now."""
        if self._transport is not None:
            self._transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """Closed by this client, or else a failure."""
        self._transport = None
        self._opened.left(self)
        if not self._opened.closing:
            self._opened.begun -= self._began
            self._opened.lost(failed=not self._refused)


async def run(order: Order) -> dict[str, Any]:
    """Open the streams over the ramp, wait until all have begun, count for the window, close."""
    opened = Opened(order)
    connecting = []
    began = perf_counter()
    for number in range(order.streams):
        due = began + order.ramp_s * number / order.streams
        if due > perf_counter():
            await asyncio.sleep(due - perf_counter())
        connecting.append(spawn(opened.connect(), "connect"))
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(FIRST_CHUNK_TIMEOUT_S):
            await asyncio.gather(*connecting)
            await opened.all_begun.wait()
    failed_before, refused_before = opened.tally.failed, opened.tally.bad_status
    before, load_before = procfs.read(order.pids), _load_cpu_s(order)
    opened.tally, start = Tally(), perf_counter()
    await asyncio.sleep(order.seconds)
    found, seconds, spent = opened.tally, perf_counter() - start, procfs.read(order.pids).since(before)
    load_cpu_s = _load_cpu_s(order) - load_before
    open_now = opened.begun
    await opened.close()
    found.failed += failed_before
    found.bad_status += refused_before
    return {**found.as_json(seconds), "open": open_now, "usage": list(spent), "load_cpu_s": load_cpu_s}


def _load_cpu_s(order: Order) -> float:
    """CPU time of this process and the engines so far."""
    return process_time() + procfs.read(order.engine_pids).cpu_s


def main() -> None:
    """Run the order of the command line."""
    order = Order(**json.loads(Path(sys.argv[1]).read_text()))
    sys.stdout.write(json.dumps(uvloop.run(run(order))) + "\n")


if __name__ == "__main__":
    main()
