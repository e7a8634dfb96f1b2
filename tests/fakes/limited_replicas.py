"""Replicas that share one limit through a ledger, in simulated time: requests arrive, exchanges take a while, replicas
join and are killed, the ledger cannot be reached for a while. All of it is repeatable by the seed.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from itertools import count
from random import Random
from typing import Final

from router.access.limit_sharing import PATIENCE_S, TICK_S, LimitSharing
from router.access.limits import Share
from router.access.rate_share import RateShare
from statesync.shares import ShareAnswer, ShareAsk, ShareLedger
from statesync.store.memory import MemoryStore

ROUND_TRIP_S: Final = 0.004
KEY: Final = "search/requests"


class ExactBucket:
    """One token bucket for all replicas together: what an exact limit admits of the same requests."""

    def __init__(self, per_minute: float, now: float) -> None:
        self._capacity = self._level = per_minute
        self._now = now
        self.admitted = 0.0

    def offer(self, cost: float, now: float) -> None:
        self._level = min(self._capacity, self._level + (now - self._now) * self._capacity / 60)
        self._now = now
        if self._level >= cost:
            self._level -= cost
            self.admitted += cost


class LimitedReplicas:
    """The replicas, and what they admitted."""

    def __init__(
        self, replicas: int, make: Callable[[float], Share], *, seed: int = 1, exact: ExactBucket | None = None
    ) -> None:
        self.rng = Random(seed)
        self.ledger = ShareLedger()
        self.now = 0.0
        self.reachable = True
        self.admitted = 0.0
        self.offered = 0.0
        self.exchanges = 0
        self.shares: dict[str, Share] = {}
        self._make = make
        self._exact = exact
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._order = count()
        for at in range(replicas):
            self.join(f"r{at}")

    def at(self, when: float, act: Callable[[], None]) -> None:
        """Do something at that time."""
        heapq.heappush(self._events, (when, next(self._order), act))

    def run(self, until: float) -> None:
        """Pass the time."""
        while self._events and self._events[0][0] <= until:
            self.now, _, act = heapq.heappop(self._events)
            act()
        self.now = until

    def join(self, name: str) -> None:
        """A replica comes."""
        share = self.shares[name] = self._make(self.now)
        sharing = LimitSharing([share], MemoryStore(), lambda: self.now)
        self.at(self.now + self.rng.uniform(0, TICK_S), lambda: self._look(name, sharing))

    def kill(self, name: str) -> None:
        """It is gone, and its lease is over."""
        del self.shares[name]

    def restart_ledger(self) -> None:
        """The ledger is lost, and an empty one takes its place."""
        self.ledger = ShareLedger()

    def requests(self, name: str, per_s: float, cost: Callable[[Random], float] = lambda _: 1.0) -> None:
        """Let requests come to this replica at random times."""

        def arrive() -> None:
            share = self.shares.get(name)
            if not isinstance(share, RateShare):
                return
            units = cost(self.rng)
            self.offered += units
            if self._exact is not None:
                self._exact.offer(units, self.now)
            if share.admits(units, self.now):
                share.use(units)
                self.admitted += units
            self.at(self.now + self.rng.expovariate(per_s), arrive)

        self.at(self.now + self.rng.expovariate(per_s), arrive)

    def _look(self, name: str, sharing: LimitSharing) -> None:
        share = self.shares.get(name)
        if share is None:
            return
        again = self.now + TICK_S
        if sharing.due(self.now):
            again += self._exchange(name, share)
        self.at(again, lambda: self._look(name, sharing))

    def _exchange(self, name: str, share: Share) -> float:
        """Begin an exchange; returns how long it takes."""
        began, ask = self.now, share.ask(self.now)
        self.exchanges += 1
        if not self.reachable:
            self.at(began + PATIENCE_S, lambda: share.unanswered(began))
            return PATIENCE_S
        there, back = (ROUND_TRIP_S / 2 * self.rng.uniform(0.2, 1.0) for _ in range(2))
        self.at(began + there, lambda: self._grant(name, share, ask, back))
        return ROUND_TRIP_S

    def _grant(self, name: str, share: Share, ask: ShareAsk, back: float) -> None:
        answer = self.ledger.grant(name, self.shares, [ask], self.now)
        self.at(self.now + back, lambda: self._answer(share, answer))

    def _answer(self, share: Share, answer: ShareAnswer) -> None:
        share.answered(answer.grants[0], answer.replicas, self.now)
