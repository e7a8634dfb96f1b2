"""Stage 3: admit, queue or shed. Counts what this replica has in flight and keeps the line of those that wait for a
saturated pool. Knows no pod: `queue.py` acts on the line.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Sequence
from itertools import count

from router.dataplane.exchange import Exchange
from router.errors import Saturated, Shed
from router.settings import Limits

SLACK = 64
"""Entries of requests that left which a line may keep beside those that wait."""

Line = list[tuple[int, int, Exchange]]
"""A heap: highest priority first, then first come."""


class Admission:
    """The gate in front of dispatch."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._lines: dict[str, Line] = {}
        self._ticket = count()
        self.active: set[Exchange] = set()
        """Admitted and not ended, the queued ones included: what a drain waits for."""
        self.queued = 0

    def admit(self, exchange: Exchange) -> None:
        """Count the exchange in. Raises Shed when this replica is full."""
        if 0 < self._limits.max_inflight <= len(self.active):
            raise Shed(
                f"This gateway already has {self._limits.max_inflight} requests in flight, its limit; try again.",
                retry_after_s=1.0,
            )
        self.active.add(exchange)

    def leave(self, exchange: Exchange) -> None:
        """Count it out; safe to call twice."""
        self.active.discard(exchange)
        if exchange.queued:
            self.step_out(exchange)  # its entry in the line is skipped when its turn comes
            self._tidy(self._lines[exchange.routed.pool])  # what such entries hold must not add up

    @property
    def held(self) -> int:
        """Entries in all lines, those of requests that left included."""
        return sum(map(len, self._lines.values()))

    def wait(self, exchange: Exchange, also: Sequence[str] = ()) -> None:
        """Put it in its pool's line, and in those of the pools `also`, whose room it may take.

        Raises Saturated when too many wait.
        """
        if self.queued >= self._limits.max_queue:
            raise Saturated(
                f"Every pod of pool {exchange.routed.pool!r} is at its limit and {self.queued} requests already wait.",
                retry_after_s=1.0,
            )
        self.step_back(exchange)
        self.join(exchange, (exchange.routed.pool, *also))

    def join(self, exchange: Exchange, pools: Sequence[str]) -> None:
        """Put one that waits in the lines of these pools."""
        info = exchange.routed.info
        priority = info.priority if info is not None else 0
        place = (-priority, next(self._ticket), exchange)
        for pool in pools:
            line = self._lines.setdefault(pool, [])
            self._tidy(line)
            heapq.heappush(line, place)

    def step_out(self, exchange: Exchange) -> None:
        """It no longer waits; where it stood is kept for a while."""
        exchange.queued = False
        self.queued -= 1

    def step_back(self, exchange: Exchange) -> None:
        """It waits, where it stood if it did."""
        exchange.queued = True
        self.queued += 1

    def _tidy(self, line: Line) -> None:
        if len(line) > 2 * self.queued + SLACK:
            line[:] = [place for place in line if place[2].queued]
            heapq.heapify(line)

    def serve(self, pool: str, attempt: Callable[[Exchange], bool]) -> None:
        """There is room: let those that wait try, in order, until one finds none (False)."""
        line = self._lines.get(pool)
        while line:
            place = line[0]
            exchange = place[2]
            if exchange.queued:
                self.step_out(exchange)
                heapq.heappop(line)
                if not attempt(exchange):
                    self.step_back(exchange)
                    heapq.heappush(line, place)
                    return
            else:
                heapq.heappop(line)
