"""Probes every pod: GET of its health path, the result goes to the `HealthTracker`, which decides what follows."""

from __future__ import annotations

import asyncio
import random
import re
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import cast

from schedulers.types import Pod, PodId
from statesync.discovery.changes import PodChange, change_of
from statesync.engines.health import HealthTracker
from statesync.engines.polling import Poller, PollInterval
from statesync.tasks import spawn

_REQUEST = b"GET %b HTTP/1.1\r\nhost: %b\r\naccept: */*\r\nconnection: close\r\n\r\n"
_STATUS = re.compile(rb"HTTP/1\.[01] (\d{3})[ \r]")
_MAX_HEAD_BYTES = 65536
_READMIT_S = 0.25
"""Seconds between two checks for ejections that are over."""


@dataclass(frozen=True, slots=True)
class ProbeConfig:
    """How to probe; the defaults are the settings'."""

    path: str = "/health"
    interval_s: float = 5.0
    timeout_s: float = 2.0
    """Seconds for the whole answer."""
    max_per_s: float = 100.0
    """Probes a second over all pods; more than 500 pods stretch a 5 s interval."""


class Prober:
    """Probes the pods of all pools, a new pod at once, and ends ejections when they are over.

    `clock` is the one that the data plane uses for `HealthTracker.outcome`.
    """

    def __init__(
        self,
        config: ProbeConfig,
        health: HealthTracker,
        *,
        clock: Callable[[], float] = time.monotonic,
        rng: Callable[[], float] = random.random,
    ) -> None:
        self._config = config
        self._health = health
        self._clock = clock
        self._poller = Poller(PollInterval(config.interval_s, config.max_per_s), "probe", clock=clock, rng=rng)
        self._unprobed: set[PodId] = set()
        self._progress = asyncio.Event()

    def set_pods(self, pool: str, pods: Iterable[Pod]) -> None:
        """Replace the pool's pods; the caller does the same with the `HealthTracker`."""
        self.change_pods(pool, change_of(self._poller.pods_of(pool), pods))

    def change_pods(self, pool: str, change: PodChange) -> None:
        """As `set_pods`, given only the difference."""
        here = self._poller.pods
        self._unprobed.update(pod.id for pod in change.come if pod.id not in here)
        self._unprobed.difference_update(self._poller.change_pods(pool, change))
        self._progress.set()

    async def first_round(self) -> None:
        """Return when each pod known at this call has been probed once or has left. Use a timeout."""
        waiting = set(self._unprobed)
        while waiting := waiting & self._unprobed:
            self._progress.clear()
            await self._progress.wait()

    async def run(self) -> None:
        """Probe until cancelled."""
        readmission = spawn(self._readmit(), "readmission")
        try:
            await self._poller.run(self._probe)
        finally:
            readmission.cancel()

    async def _probe(self, pod: Pod) -> None:
        ok = await self._ask(pod.address)
        self._health.probe(pod.id, ok, self._clock())
        self._unprobed.discard(pod.id)
        self._progress.set()

    async def _ask(self, address: str) -> bool:
        host, _, port = address.rpartition(":")
        loop = asyncio.get_running_loop()
        asking = _Asking(_REQUEST % (self._config.path.encode(), address.encode()), loop.create_future())
        try:
            async with asyncio.timeout(self._config.timeout_s):
                await loop.create_connection(lambda: asking, host.strip("[]"), int(port))
                return await asking.status == 200
        except (TimeoutError, OSError, ValueError):
            return False
        finally:
            asking.abort()

    async def _readmit(self) -> None:
        while True:
            self._health.due(self._clock())
            await asyncio.sleep(_READMIT_S)


class _Asking(asyncio.Protocol):
    """One request on a connection of its own, and the status of its answer; 0 if that is no HTTP.

    A connection for each probe: vLLM closes idle ones after 5 s, the default interval, and a pod that takes no new
    connections is not healthy. Written by hand, because httpx takes 2 ms of the event loop for it: a fifth of a core
    with 1,000 pods.
    """

    def __init__(self, request: bytes, status: asyncio.Future[int]) -> None:
        self._request = request
        self.status = status
        self._head = b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports do not descend from asyncio's: no isinstance here.
        self._transport = cast(asyncio.Transport, transport)
        self._transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        self._head += data
        if b"\r\n\r\n" in self._head:
            found = _STATUS.match(self._head)
            self._settle(int(found[1]) if found else 0)
        elif len(self._head) > _MAX_HEAD_BYTES:
            self._settle(0)

    def connection_lost(self, exc: Exception | None) -> None:
        self._settle(0)

    def abort(self) -> None:
        """Close at once."""
        self.status.cancel()
        if self._transport is not None:
            self._transport.abort()

    def _settle(self, status: int) -> None:
        if not self.status.done():
            self.status.set_result(status)
