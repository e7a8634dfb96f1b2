"""Probes every pod: GET of its health path, the result goes to the `HealthTracker`, which decides what follows.

Any 2xx is well. Which path to ask is the engine's (`presets.py`) or a setting; where the preset has several, as with
`engine: auto`, the first that the pod has is kept. The log says what was answered and what to set.
"""

from __future__ import annotations

import asyncio
import logging
import random
import re
import ssl
import time
from collections.abc import Callable, Mapping
from typing import Final, NamedTuple, cast

from schedulers.types import Pod, PodId
from statesync.discovery.changes import PodChange
from statesync.discovery.ranks import is_first, process_of
from statesync.engines.access import NO_ACCESSES, Accesses, PoolAccess
from statesync.engines.failure_log import FailureLog
from statesync.engines.health import HealthTracker
from statesync.engines.http_get import ABSENT, LOCKED
from statesync.engines.polling import Poller, PollInterval
from statesync.engines.presets import AUTO, engine_with
from statesync.engines.tls import reason_of
from statesync.settings import Health
from statesync.store.protocol import StateStore
from statesync.tasks import spawn

_log = logging.getLogger("turnout.prober")

_REQUEST = "GET {} HTTP/1.1\r\nhost: {}\r\naccept: */*\r\nconnection: close\r\n{}\r\n"
_STATUS = re.compile(rb"HTTP/1\.[01] (\d{3})[ \r]")
_MAX_HEAD_BYTES = 65536
MAX_PER_S: Final = 100.0
"""Probes a second over all pods; more than 500 pods stretch a 5 s interval."""
_READMIT_S = 0.25
"""Seconds between two checks for ejections that are over."""


class ProbeAnswer(NamedTuple):
    """What a pod answered at one path."""

    path: str
    status: int = 0
    """0: no answer."""
    problem: str = ""
    """Why there is none."""

    @property
    def well(self) -> bool:
        """Whether the pod says that it is well."""
        return 200 <= self.status < 300

    @property
    def absent(self) -> bool:
        """Whether the pod has no such path."""
        return self.status in ABSENT or 300 <= self.status < 400

    def __str__(self) -> str:
        return f"GET {self.path} answered {self.status}" if self.status else self.problem


class Prober:
    """Probes the pods of all pools, a new pod at once, and ends ejections when they are over.

    `clock` is the one that the data plane uses for `HealthTracker.outcome`.
    """

    def __init__(
        self,
        config: Health,
        health: HealthTracker,
        accesses: Accesses = NO_ACCESSES,
        shared: StateStore | None = None,
        *,
        max_per_s: float = MAX_PER_S,
        clock: Callable[[], float] = time.monotonic,
        rng: Callable[[], float] = random.random,
    ) -> None:
        self._config = config
        self._health = health
        self._accesses = accesses
        self._shared = shared
        self._paths: dict[PodId, str] = {}
        """The health path of each pod that answered at another than its engine's first one."""
        self._failures = FailureLog()
        self._noted: set[tuple[str, str]] = set()
        """Pool and health path, of those that the log named."""
        self._clock = clock
        pace = PollInterval(config.interval_s, max_per_s)
        self._poller = Poller(pace, "probe", wanted=self._wanted, clock=clock, rng=rng)
        self.first_round = self._poller.first_round
        """Returns when each pod known at the call has been probed once or has left. Use a timeout."""

    def change_pods(self, pool: str, change: PodChange) -> None:
        """Pods came to a pool or left it; the caller passes that on to the `HealthTracker`, too."""
        left = self._poller.change_pods(pool, change)
        self._failures.forget(left)
        for pod in left:
            self._paths.pop(pod, None)

    def rush(self, on: bool) -> None:
        """Whether first probes are made in a rush: while this replica does nothing else yet."""
        self._poller.rush = on

    def probed_elsewhere(self, well: Mapping[PodId, bool]) -> None:
        """Take the verdicts of the replicas that were there before, of pods not probed here yet. Those that are well
        are probed when their turn comes, the others first."""
        now = self._clock()
        for pod in self._poller.unvisited.intersection(well):
            self._took(pod, well[pod], now)
            (self._poller.visited if well[pod] else self._poller.known)(pod)

    async def run(self) -> None:
        """Probe until cancelled."""
        readmission = spawn(self._readmit(), "readmission")
        try:
            await self._poller.run(self._probe)
        finally:
            readmission.cancel()

    async def _probe(self, pod: Pod) -> None:
        pool = self._poller.pool_of(pod.id)
        access = self._accesses.of(pool)
        answers = await self._ask(access, pod)
        ok = answers[-1].well
        for rank in process_of(pod):
            if rank in self._poller.pods:
                self._took(rank, ok, self._clock())
                self._poller.known(rank)
        if ok:
            self._settle(pool, pod.id, access, answers)
        else:
            self._complain(pod.id, answers)

    def _wanted(self, pod: PodId) -> bool:
        """Whether the pod is probed itself: the ranks of a process have one answer."""
        return is_first(self._poller.pods[pod])

    def _took(self, pod: PodId, ok: bool, now: float) -> None:
        self._health.probe(pod, ok, now)
        if self._shared is not None:
            self._shared.probed(pod, self._health.probed_well(pod))

    async def _ask(self, access: PoolAccess, pod: Pod) -> list[ProbeAnswer]:
        """The answers at the paths that were tried: the last is of one that the pod has, if it has any."""
        answers: list[ProbeAnswer] = []
        known = self._paths.get(pod.id)
        try:
            async with asyncio.timeout(self._config.timeout_s):
                for path in sorted(access.preset.health, key=lambda each: each != known):
                    answers.append(await _answer(access, pod.address, path))
                    if not answers[-1].absent:
                        break
        except TimeoutError:
            answers.append(ProbeAnswer("", problem=f"no answer in {self._config.timeout_s:g} s"))
        return answers

    def _settle(self, pool: str, pod: PodId, access: PoolAccess, answers: list[ProbeAnswer]) -> None:
        """Keep the path that answered."""
        if self._failures.ended(pod):
            _log.info("pod %s: probes are answered again", pod)
        path = answers[-1].path
        if len(answers) > 1:
            self._paths[pod] = path
            if access.engine == AUTO and (pool, path) not in self._noted:
                self._noted.add((pool, path))
                engine = engine_with(path)
                named = f"engine: {engine}" if engine else f"upstream: {{health_path: {path}}}"
                said = ", ".join(str(answer) for answer in answers)
                _log.info("pool %s, pod %s: %s; that is asked from now on. To say so, set %s", pool, pod, said, named)

    def _complain(self, pod: PodId, answers: list[ProbeAnswer]) -> None:
        said = ", ".join(str(answer) for answer in answers)
        last = answers[-1]
        advice = ""
        if last.absent:
            advice = "; set `engine`, or upstream.health_path to a path that answers 2xx"
        elif last.status in LOCKED:
            advice = "; set upstream.api_key_file or api_key_env of its pool"
        if self._failures.failed(pod, said, self._clock()):
            _log.warning("pod %s fails its probe: %s%s", pod, said, advice)

    async def _readmit(self) -> None:
        while True:
            self._health.due(self._clock())
            await asyncio.sleep(_READMIT_S)


async def _answer(access: PoolAccess, address: str, path: str) -> ProbeAnswer:
    asking: _Asking | None = None
    try:
        if access.check is not None:
            return ProbeAnswer(path, *await access.check(access, address, path))
        where, target = access.page(address, path)
        request = _REQUEST.format(target, access.host_of(where), access.own()).encode("latin-1")
        asking = _Asking(request, asyncio.get_running_loop().create_future())
        protocol = asking
        await access.connect(lambda: protocol, where)
        return ProbeAnswer(path, await asking.status, f"no HTTP answer to GET {path}")
    except ssl.SSLError as error:
        return ProbeAnswer(path, problem=f"no TLS connection: {reason_of(error)}")
    except (OSError, ValueError) as error:
        return ProbeAnswer(path, problem=f"no connection: {getattr(error, 'strerror', None) or error}")
    finally:
        if asking is not None:
            asking.abort()


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
        if isinstance(exc, ssl.SSLError) and not self.status.done():
            self.status.set_exception(exc)  # in TLS 1.3 a pod refuses the gateway's certificate after the handshake
        self._settle(0)

    def abort(self) -> None:
        """Close at once."""
        self.status.cancel()
        if self._transport is not None:
            self._transport.abort()

    def _settle(self, status: int) -> None:
        if not self.status.done():
            self.status.set_result(status)
