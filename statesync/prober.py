"""Asking every pod whether it is well: GET its health path, tell the `HealthTracker`. What follows is decided there."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial

import httpx

from schedulers.types import Pod, PodId
from statesync.health import HealthTracker
from statesync.patrol import Pace, Patrol
from statesync.tasks import spawn

_READMIT_S = 0.25
"""How late an ejected pod may be tried again."""


@dataclass(frozen=True, slots=True)
class ProbeConfig:
    """How to probe; the defaults are the settings'."""

    path: str = "/health"
    interval_s: float = 5.0
    timeout_s: float = 2.0
    """For the whole answer."""
    max_per_s: float = 100.0
    """Probes a second over all pods; more than 500 pods stretch a 5 s interval."""


class Prober:
    """Probes the pods of all pools, a new pod right away, and lets ejected ones be tried again when it is time.

    `clock` is the one whose seconds the data plane gives to `HealthTracker.outcome`.
    """

    def __init__(
        self,
        config: ProbeConfig,
        health: HealthTracker,
        *,
        clock: Callable[[], float] = time.monotonic,
        dice: Callable[[], float] = random.random,
    ) -> None:
        self._config = config
        self._health = health
        self._clock = clock
        self._patrol = Patrol(Pace(config.interval_s, config.max_per_s), "probe", clock=clock, dice=dice)
        self._unprobed: set[PodId] = set()
        self._progress = asyncio.Event()

    def set_pods(self, pool: str, pods: Iterable[Pod]) -> None:
        """The pool's pods are now these; the `HealthTracker` is told by whoever tells this."""
        before = set(self._patrol.pods)
        self._patrol.set_pods(pool, pods)
        known = self._patrol.pods.keys()
        self._unprobed = (self._unprobed & known) | (known - before)
        self._progress.set()

    async def first_round(self) -> None:
        """Returns when each pod known at this call has been probed once or has left. Give it a timeout."""
        waiting = set(self._unprobed)
        while waiting := waiting & self._unprobed:
            self._progress.clear()
            await self._progress.wait()

    async def run(self) -> None:
        """Probe until cancelled."""
        # A connection for each probe: a kept one would meet vLLM's 5 s keep-alive just as it closes, and a pod that
        # takes no new connections is not well. `verify` only spares loading certificates: pods speak no TLS.
        limits = httpx.Limits(max_keepalive_connections=0)
        async with httpx.AsyncClient(verify=False, trust_env=False, limits=limits, timeout=None) as client:
            readmission = spawn(self._readmit(), "readmission")
            try:
                await self._patrol.run(partial(self._probe, client))
            finally:
                readmission.cancel()

    async def _probe(self, client: httpx.AsyncClient, pod: Pod) -> None:
        ok = await self._ask(client, f"http://{pod.address}{self._config.path}")
        self._health.probe(pod.id, ok, self._clock())
        self._unprobed.discard(pod.id)
        self._progress.set()

    async def _ask(self, client: httpx.AsyncClient, url: str) -> bool:
        try:
            # One limit for all of it: httpx's own start anew with every byte, and a hung engine may drip.
            async with asyncio.timeout(self._config.timeout_s), client.stream("GET", url) as response:
                return response.status_code == 200
        except (httpx.HTTPError, httpx.InvalidURL, TimeoutError, OSError):
            return False

    async def _readmit(self) -> None:
        while True:
            self._health.due(self._clock())
            await asyncio.sleep(_READMIT_S)
