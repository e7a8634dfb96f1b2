"""Visiting every pod at an interval: whose turn it is (`PollSchedule`, pure) and the loop that goes (`Poller`).

The prober and the scraper both walk this way. What a visit does, and what follows from it, is theirs.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Coroutine, Iterable, Mapping
from functools import partial
from heapq import heappop, heappush
from typing import Any, NamedTuple

from schedulers.types import Pod, PodId
from statesync.discovery.changes import PodChange, change_of
from statesync.tasks import spawn

_JITTER = 0.1


class PollInterval(NamedTuple):
    """How often."""

    interval_s: float
    """Between two visits of a pod."""
    max_per_s: float
    """Visits a second over all pods: with many pods the interval stretches."""


def _always(_: PodId) -> bool:
    return True


class PollSchedule:
    """Whose turn it is. New pods come first; then turns are spread over the interval and jittered, so that neither
    the gateway nor the engines of several replicas see them in bursts. `rng` gives floats in [0, 1).

    When a pod's turn comes, `wanted` says whether there is anything to visit it for; one that is passed over costs
    nothing of what is allowed, and the interval is stretched only by those that are not.
    """

    def __init__(self, pace: PollInterval, rng: Callable[[], float], wanted: Callable[[PodId], bool] = _always) -> None:
        self._pace = pace
        self._rng = rng
        self._wanted = wanted
        self._pools: dict[str, dict[PodId, Pod]] = {}
        self._pods: dict[PodId, Pod] = {}
        self._turn: dict[PodId, float] = {}
        self._heap: list[tuple[float, PodId]] = []
        """All turns, and some that were moved or whose pod has left: only those that `_turn` agrees with count."""
        self._seen: set[PodId] = set()
        self._passed_over: set[PodId] = set()
        self._free_at = float("-inf")
        self._looked_at = float("-inf")

    @property
    def pods(self) -> Mapping[PodId, Pod]:
        """All pods, over all pools."""
        return self._pods

    def pods_of(self, pool: str) -> Mapping[PodId, Pod]:
        """One pool's."""
        return self._pools.get(pool, {})

    def set_pods(self, pool: str, pods: Iterable[Pod], now: float) -> None:
        """The pool's pods are now these; a pod in several pools is visited once."""
        self.change_pods(pool, change_of(self.pods_of(pool), pods), now)

    def change_pods(self, pool: str, change: PodChange, now: float) -> list[PodId]:
        """As `set_pods`, told only the difference; returns those that are in no pool any more."""
        members = self._pools.setdefault(pool, {})
        for pod in change.come:
            members[pod.id] = self._pods[pod.id] = pod
            if pod.id not in self._turn:
                self._book(pod.id, now)
        left = [pod for pod in change.gone if members.pop(pod, None) is not None and not self._is_member(pod)]
        for gone in left:
            del self._pods[gone], self._turn[gone]
            self._seen.discard(gone)
            self._passed_over.discard(gone)
        return left

    def due(self, now: float) -> list[Pod]:
        """Those whose turn has come; each has its next turn booked."""
        gap_s = 1.0 / self._pace.max_per_s
        self._looked_at = now
        # What was not used of the allowance is not saved up beyond one visit: a late loop makes no burst.
        free_at = max(self._free_at, now - gap_s)
        visits: list[Pod] = []
        next_turns: list[tuple[PodId, float]] = []
        while free_at <= now and (first := self._first()) is not None and first[0] <= now:
            _, pod = heappop(self._heap)
            if self._wanted(pod):
                self._passed_over.discard(pod)
                visits.append(self._pods[pod])
                free_at += gap_s
            else:
                self._passed_over.add(pod)
            next_turns.append((pod, now + self._wait_s(pod)))
        for pod, at in next_turns:  # after the loop, or an interval of nothing would make it endless
            self._book(pod, at)
        self._free_at = free_at
        return visits

    def next_at(self) -> float | None:
        """When `due` has something to say; None without pods."""
        if (first := self._first()) is None:
            return None
        at = max(first[0], self._free_at)
        # Turns of pods that are passed over are not kept apart by the allowance: look at several of them at a time.
        return max(at, self._looked_at + 1.0 / self._pace.max_per_s) if self._passed_over else at

    def _first(self) -> tuple[float, PodId] | None:
        """The earliest turn; it stands first in the heap then."""
        while self._heap and self._turn.get(self._heap[0][1]) != self._heap[0][0]:
            heappop(self._heap)
        return self._heap[0] if self._heap else None

    def _book(self, pod: PodId, at: float) -> None:
        self._turn[pod] = at
        heappush(self._heap, (at, pod))

    def _is_member(self, pod: PodId) -> bool:
        return any(pod in members for members in self._pools.values())

    def _wait_s(self, pod: PodId) -> float:
        interval_s = max(self._pace.interval_s, (len(self._pods) - len(self._passed_over)) / self._pace.max_per_s)
        if pod in self._seen:
            return interval_s * (1 + _JITTER * (2 * self._rng() - 1))
        # Pods that came together part here: their second turns fall anywhere in a whole interval.
        self._seen.add(pod)
        return interval_s * (0.5 + self._rng())


class Poller:
    """Visits each pod when its turn comes, as many at a time as need be, but never one pod twice at once."""

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

    @property
    def pods(self) -> Mapping[PodId, Pod]:
        """All pods, over all pools."""
        return self._rounds.pods

    def pods_of(self, pool: str) -> Mapping[PodId, Pod]:
        """One pool's."""
        return self._rounds.pods_of(pool)

    def set_pods(self, pool: str, pods: Iterable[Pod]) -> None:
        """The pool's pods are now these. A visit of a pod that has left is broken off."""
        self.change_pods(pool, change_of(self.pods_of(pool), pods))

    def change_pods(self, pool: str, change: PodChange) -> list[PodId]:
        """As `set_pods`, told only the difference; returns those that are in no pool any more."""
        left = self._rounds.change_pods(pool, change, self._clock())
        for pod in left:
            # Forgotten at once, not when the task ends: the pod may come back before that and is due a visit then.
            if (visit := self._visits.pop(pod, None)) is not None:
                visit.cancel()
        self._changed.set()
        return left

    async def run(self, visit: Callable[[Pod], Coroutine[Any, Any, None]]) -> None:
        """Visit until cancelled; visits under way are broken off then. What a visit raises is logged."""
        try:
            while True:
                self._changed.clear()
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

    async def _until(self, at: float | None) -> None:
        """Until then, or until the pods change."""
        try:
            async with asyncio.timeout(None if at is None else max(0.0, at - self._clock())):
                await self._changed.wait()
        except TimeoutError:
            pass
