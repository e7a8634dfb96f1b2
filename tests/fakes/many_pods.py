"""Many pods behind one listening socket: every address of 127.0.0.0/8 is one. They answer probes, lists of models and
metrics, and run on an event loop in their own thread.
"""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import cast

from loadtests.bench.freeze.cluster import pods_socket
from loadtests.bench.load.canned import BACKLOG, PAGES, response
from loadtests.sim.ports import HOST
from tests.fakes.waiting import DEADLINE_S

HEALTH, MODELS = b"/health", b"/v1/models"
_FAILING = response(b"", "text/plain").replace(b"200 OK", b"503 Service Unavailable")


class ManyPods:
    """The pods, and what a test makes of them. Its fields may be changed at any time."""

    def __init__(self, count: int) -> None:
        self.hosts = [f"127.{1 + at // 62_500}.{at // 250 % 250}.{at % 250 + 1}" for at in range(count)]
        self.port = 0
        self.failing: frozenset[str] = frozenset()
        """Hosts whose probes are answered with 503."""
        self.silent = False
        """Whether neither probes nor readings of models are answered."""
        self.asked: Counter[tuple[str, bytes]] = Counter()
        """Requests by host and path."""
        self._listening = threading.Event()
        self._loop: asyncio.AbstractEventLoop
        self._over: asyncio.Event
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), name="many-pods", daemon=True)

    @property
    def urls(self) -> list[str]:
        """The pods' URLs for a configuration."""
        return [f"http://{host}:{self.port}" for host in self.hosts]

    def start(self) -> None:
        """Start the thread; returns when the pods listen."""
        self._thread.start()
        assert self._listening.wait(DEADLINE_S), "the pods do not listen"

    def stop(self) -> None:
        """End the thread."""
        self._loop.call_soon_threadsafe(self._over.set)
        self._thread.join(DEADLINE_S)

    async def _serve(self) -> None:
        self._loop, self._over = asyncio.get_running_loop(), asyncio.Event()
        listening = pods_socket()
        server = await self._loop.create_server(lambda: _Connection(self), sock=listening, backlog=BACKLOG)
        self.port = listening.getsockname()[1]
        self._listening.set()
        await self._over.wait()
        server.close()


class _Connection(asyncio.Protocol):
    """One request at a time, without a body."""

    def __init__(self, pods: ManyPods) -> None:
        self._pods = pods
        self._transport: asyncio.Transport
        self._host = HOST

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._host = transport.get_extra_info("sockname")[0]

    def data_received(self, data: bytes) -> None:
        path = data.split(b" ", 2)[1]
        self._pods.asked[self._host, path] += 1
        if path in (HEALTH, MODELS) and self._pods.silent:
            return
        failing = path == HEALTH and self._host in self._pods.failing
        self._transport.write(_FAILING if failing else PAGES[path])


@contextmanager
def many_pods(count: int) -> Iterator[ManyPods]:
    """`count` pods for the block."""
    pods = ManyPods(count)
    pods.start()
    try:
        yield pods
    finally:
        pods.stop()
