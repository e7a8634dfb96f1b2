"""Visits every pod at an interval: the schedule (`PollSchedule`, pure) and the loop (`Poller`).

The prober and the scraper use it, and define what a visit does.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Coroutine, Mapping
from functools import partial
from heapq import heappop, heappush
from typing import Any, Final, NamedTuple

from schedulers.types import Pod, PodId
from statesync.discovery.changes import PodChange
from statesync.tasks import spawn

_JITTER = 0.1
"""Fraction of the interval by which a turn may be earlier or later."""


class PollInterval(NamedTuple):
    """How often pods are visited."""

    interval_s: float
    """Seconds between two visits of a pod."""
    max_per_s: float
    """Visits a second over all pods: with many pods the interval stretches."""


RUSH: Final = 10
"""How many times `max_per_s` first visits are made while nothing else is to be done: 1,000 probes a second by default.
A visit takes 0.2 to 0.4 ms of the event loop."""

RUSH_VISITS: Final = 128
"""Visits under way above which there is no rush: pods that do not answer hold a descriptor each until the timeout, and
a visit must not wait so long for the loop that it seems to time out."""


def _always(_: PodId) -> bool:
    return True


class PollSchedule:
    """The turns of all pods. New pods come first; later turns are spread over the interval and jittered, so that
    neither the gateway nor the engines see bursts. `rng` gives floats in [0, 1).

    When a pod's turn comes, `wanted` decides whether it needs a visit. A skipped pod does not count for `max_per_s`,
    nor for the stretching of the interval.
    """

    def __init__(self, pace: PollInterval, rng: Callable[[], float], wanted: Callable[[PodId], bool] = _always) -> None:
        self._pace = pace
        self._rng = rng
        self._wanted = wanted
        self._pools: dict[str, dict[PodId, Pod]] = {}
        self._pods: dict[PodId, Pod] = {}
        self._turn: dict[PodId, float] = {}
        self._heap: list[tuple[float, PodId]] = []
        """All turns, and outdated ones of pods that moved or left: only those equal to `_turn` are valid."""
        self._seen: set[PodId] = set()
        self._skipped: set[PodId] = set()
        self.rush = False
        """Whether pods that were never visited are visited `RUSH` times as fast."""
        self._free_at = float("-inf")
        self._looked_at = float("-inf")

    @property
    def pods(self) -> Mapping[PodId, Pod]:
        """All pods, over all pools."""
        return self._pods

    def pool_of(self, pod: PodId) -> str:
        """A pool that the pod is in; empty if it has left."""
        return next((pool for pool, members in self._pools.items() if pod in members), "")

    def change_pods(self, pool: str, change: PodChange, now: float) -> list[PodId]:
        """Pods came to a pool or left it; returns those that are in none any more. A pod of several is visited once."""
        members = self._pools.setdefault(pool, {})
        for pod in change.come:
            members[pod.id] = self._pods[pod.id] = pod
            if pod.id not in self._turn:
                self._book(pod.id, now)
        left = [pod for pod in change.gone if members.pop(pod, None) is not None and not self._is_member(pod)]
        for gone in left:
            del self._pods[gone], self._turn[gone]
            self._seen.discard(gone)
            self._skipped.discard(gone)
        return left

    def hurry(self, pod: PodId, now: float) -> None:
        """The pod's next turn is now; nothing happens if it is in no pool."""
        if pod in self._turn:
            self._book(pod, now)

    def visited(self, pod: PodId, now: float) -> None:
        """Another replica has visited the pod: its next turn is somewhere in an interval from now."""
        if pod in self._turn:
            self._seen.add(pod)
            self._book(pod, now + self._interval_s() * self._rng())

    def due(self, now: float) -> list[Pod]:
        """The pods whose turn has come; their next turns are booked."""
        gap_s = 1.0 / self._pace.max_per_s
        first_gap_s = gap_s / RUSH if self.rush else gap_s
        self._looked_at = now
        # At most one unused visit is saved: a late loop makes no burst.
        free_at = max(self._free_at, now - gap_s)
        visits: list[Pod] = []
        next_turns: list[tuple[PodId, float]] = []
        while free_at <= now and (first := self._first()) is not None and first[0] <= now:
            _, pod = heappop(self._heap)
            if self._wanted(pod):
                self._skipped.discard(pod)
                visits.append(self._pods[pod])
                free_at += gap_s if pod in self._seen else first_gap_s
            else:
                self._skipped.add(pod)
            next_turns.append((pod, now + self._wait_s(pod)))
        for pod, at in next_turns:  # after the loop, or an interval of 0 would make it endless
            self._book(pod, at)
        self._free_at = free_at
        return visits

    def next_at(self) -> float | None:
        """The time of the next turn; None without pods."""
        if (first := self._first()) is None:
            return None
        at = max(first[0], self._free_at)
        # `max_per_s` does not spread the turns of skipped pods: take several of them at a time.
        return max(at, self._looked_at + 1.0 / self._pace.max_per_s) if self._skipped else at

    def _first(self) -> tuple[float, PodId] | None:
        """The earliest valid turn, which is then first in the heap."""
        while self._heap and self._turn.get(self._heap[0][1]) != self._heap[0][0]:
            heappop(self._heap)
        return self._heap[0] if self._heap else None

    def _book(self, pod: PodId, at: float) -> None:
        self._turn[pod] = at
        heappush(self._heap, (at, pod))

    def _is_member(self, pod: PodId) -> bool:
        return any(pod in members for members in self._pools.values())

    def _interval_s(self) -> float:
        """Seconds between two visits of a pod, stretched where there are too many."""
        return max(self._pace.interval_s, (len(self._pods) - len(self._skipped)) / self._pace.max_per_s)

    def _wait_s(self, pod: PodId) -> float:
        interval_s = self._interval_s()
        if pod in self._seen:
            return interval_s * (1 + _JITTER * (2 * self._rng() - 1))
        # Pods that came together are spread here: their second turns fall anywhere in a whole interval.
        self._seen.add(pod)
        return interval_s * (0.5 + self._rng())


class Poller:
    """Visits each pod when its turn comes; several at a time, but never one pod twice at once."""

    def __init__(
        self,
        pace: PollInterval,
        name: str,
        *,
        wanted: Callable[[PodId], bool] = _always,
        clock: Callable[[], float] = time.monotonic,
        rng: Callable[[], float] = random.random,
    ) -> None:
        self._rounds = PollSchedule(pace, rng, wanted)
        self._name = name
        self._clock = clock
        self._changed = asyncio.Event()
        self._visits: dict[PodId, asyncio.Task[None]] = {}
        self.unvisited: set[PodId] = set()
        """Pods of which no visit has ended yet."""
        self._progress = asyncio.Event()
        self.rush = False
        """Whether new pods are visited in a rush, as nothing else is to be done yet."""

    @property
    def pods(self) -> Mapping[PodId, Pod]:
        """All pods, over all pools."""
        return self._rounds.pods

    def pool_of(self, pod: PodId) -> str:
        """A pool that the pod is in; empty if it has left."""
        return self._rounds.pool_of(pod)

    def change_pods(self, pool: str, change: PodChange) -> list[PodId]:
        """Pods came to a pool or left it; returns those that are in no pool any more, whose visits are cancelled."""
        here = self._rounds.pods
        self.unvisited.update([pod.id for pod in change.come if pod.id not in here])
        left = self._rounds.change_pods(pool, change, self._clock())
        self.unvisited.difference_update(left)
        self._progress.set()
        for pod in left:
            # Removed at once, not when the task ends: if the pod comes back before that, it needs a visit.
            if (visit := self._visits.pop(pod, None)) is not None:
                visit.cancel()
        self._changed.set()
        return left

    def hurry(self, pod: PodId) -> None:
        """Visit the pod as soon as `max_per_s` allows. One that is being visited is visited at its next turn."""
        self._rounds.hurry(pod, self._clock())
        self._changed.set()

    def visited(self, pod: PodId) -> None:
        """Another replica has visited the pod: there is no need to hurry."""
        self._rounds.visited(pod, self._clock())
        self.known(pod)

    def known(self, pod: PodId) -> None:
        """The pod needs no first visit any more, though it may have its turn."""
        self.unvisited.discard(pod)
        self._progress.set()

    async def first_round(self) -> None:
        """Return when each pod known at this call has been visited once or has left. Use a timeout."""
        # One after the other: to compare all of them at each visit would take seconds with 10,000 pods.
        for pod in tuple(self.unvisited):
            while pod in self.unvisited:
                self._progress.clear()
                await self._progress.wait()

    async def run(self, visit: Callable[[Pod], Coroutine[Any, Any, None]]) -> None:
        """Visit until cancelled, which cancels visits under way. An error of a visit is logged."""
        try:
            while True:
                self._changed.clear()
                self._rounds.rush = self.rush and len(self._visits) < RUSH_VISITS
                for pod in self._rounds.due(self._clock()):
                    if pod.id not in self._visits:
                        self._start(visit(pod), pod.id)
                await self._until(self._rounds.next_at())
        finally:
            visits = list(self._visits.values())
            for task in visits:
                task.cancel()
            await asyncio.gather(*visits, return_exceptions=True)

    def _start(self, visit: Coroutine[Any, Any, None], pod: PodId) -> None:
        task = spawn(visit, f"{self._name} {pod}")
        self._visits[pod] = task
        task.add_done_callback(partial(self._ended, pod))

    def _ended(self, pod: PodId, task: asyncio.Task[None]) -> None:
        if self._visits.get(pod) is task:
            del self._visits[pod]
            self.known(pod)

    async def _until(self, at: float | None) -> None:
        """Wait until that time, or until the pods change."""
        try:
            async with asyncio.timeout(None if at is None else max(0.0, at - self._clock())):
                await self._changed.wait()
        except TimeoutError:
            pass
