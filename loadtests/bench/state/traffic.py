"""A replica's load as its shared state sees it: reserve, first token, release, and a placement for each request.

There is no HTTP, which would cost more than the state that is measured.

Arrivals are random at a given rate (open loop: late ones are made up for); conversations grow by two blocks a turn.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter, deque
from typing import NamedTuple

from schedulers.types import PREFIX_BLOCK_TOKENS, Pod, PodId, RequestInfo
from statesync.load.pod_state import Charge
from statesync.load.view import LoadView
from statesync.prefix.index import PrefixIndex
from statesync.store.protocol import StateStore

POOL = "default"
FIRST_TOKEN_S = 0.2
REQUEST_S = 1.0
CONVERSATIONS = 500
TURN_BLOCKS = 2
CHAIN_BLOCKS = 64
"""A conversation ends there: 4,096 tokens, 16 KB."""

TICK_S = 0.001
BURST = 8
"""Largest number of arrivals in one turn of the loop: a gateway that is late also reads its sockets in between."""


class Stamp(NamedTuple):
    """A pod's counter of dispatches reached `dispatched` at that time on this machine's monotonic clock."""

    pod: int
    dispatched: int
    at_s: float


def pods(count: int) -> list[Pod]:
    """Addresses, as without Kubernetes."""
    names = [f"10.0.{at // 250}.{at % 250 + 1}:8000" for at in range(count)]
    return [Pod(PodId(name), name) for name in names]


class StateLoad:
    """Drives a view and an index, and passes placements to the store (the view announces by itself)."""

    def __init__(self, view: LoadView, index: PrefixIndex, store: StateStore | None, members: list[Pod], seed: int):
        self._view, self._index, self._store, self._pods = view, index, store, members
        self._rng = random.Random(seed)
        self._chains: list[list[int]] = [[] for _ in range(CONVERSATIONS)]
        self._prefilling: deque[tuple[float, Charge]] = deque()
        self._running: deque[tuple[float, Charge, int]] = deque()
        self.inflight: Counter[PodId] = Counter()
        """This replica's own count, kept apart from the view."""
        self._dispatched = [0] * len(members)
        self.sent: list[Stamp] = []
        self.requests = 0
        self.late_s = 0.0
        """The longest delay of an arrival after its time."""

    async def run(self, rate: float, seconds: float) -> None:
        """Let requests arrive for `seconds`. Those open at the end stay open until `drain`."""
        began = time.monotonic()
        due = began + self._rng.expovariate(rate)
        while (now := time.monotonic()) < began + seconds:
            self._proceed(now)
            for _ in range(BURST):
                if due > now:
                    break
                self.late_s = max(self.late_s, now - due)
                self._arrive()
                due += self._rng.expovariate(rate)
            await asyncio.sleep(TICK_S if due > now else 0)

    async def drain(self) -> None:
        """Let open requests run to their end."""
        while self._running:
            self._proceed(time.monotonic())
            await asyncio.sleep(TICK_S)

    def _arrive(self) -> None:
        """One request: the emptier of two random pods gets it."""
        self.requests += 1
        turn = self._rng.randrange(CONVERSATIONS)
        chain = self._chains[turn] + [self._rng.getrandbits(64) for _ in range(TURN_BLOCKS)]
        self._chains[turn] = chain if len(chain) < CHAIN_BLOCKS else []
        now = time.monotonic()
        request = RequestInfo("id", "m", PREFIX_BLOCK_TOKENS * len(chain), 256, now, self.requests, self.requests)
        candidates = self._view.snapshot(POOL).candidates
        one, two = self._rng.randrange(len(candidates)), self._rng.randrange(len(candidates))
        at = one if candidates[one].load.inflight <= candidates[two].load.inflight else two
        pod = candidates[at].pod.id
        self._index.match(chain)
        charge = self._view.reserve(pod, request)
        self._index.place(pod, chain)
        if self._store is not None:
            self._store.placed(pod, chain)
        self.inflight[pod] += 1
        self._dispatched[at] += 1
        self.sent.append(Stamp(at, self._dispatched[at], now))
        self._prefilling.append((now + FIRST_TOKEN_S, charge))
        self._running.append((now + REQUEST_S, charge, at))

    def _proceed(self, now: float) -> None:
        """First tokens and ends that are due."""
        while self._prefilling and self._prefilling[0][0] <= now:
            self._view.prefill_done(self._prefilling.popleft()[1])
        while self._running and self._running[0][0] <= now:
            _, charge, at = self._running.popleft()
            self._view.release(charge)
            self.inflight[self._pods[at].id] -= 1
