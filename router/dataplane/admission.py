"""Stage 3: admit, queue or shed. Counts the requests that this replica has in flight and keeps one queue for each
saturated pool, in order. Knows no pod: `queue.py` acts on the queues.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Sequence
from itertools import count

from router.dataplane.exchange import POD_LINE, Exchange
from router.errors import Saturated, Shed
from router.settings import Limits

SLACK = 64
"""Entries of requests that no longer wait which a queue may hold before it is compacted."""

PoolQueue = list[tuple[int, int, Exchange]]
"""A heap of (negated priority, ticket, exchange): highest priority first, then first come."""


class Admission:
    """The gate in front of dispatch."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._queues: dict[str, PoolQueue] = {}
        self._ticket = count()
        self.active: set[Exchange] = set()
        """Exchanges that were admitted and have not ended, the queued ones included. A drain waits for them."""
        self.queued = 0
        """Exchanges that wait."""

    def admit(self, exchange: Exchange) -> None:
        """Add the exchange to `active`. Raises Shed when this replica has `max_inflight` requests in flight."""
        if 0 < self._limits.max_inflight <= len(self.active):
            raise Shed(
                f"This gateway already has {self._limits.max_inflight} requests in flight, its limit; try again.",
                retry_after_s=1.0,
            )
        self.active.add(exchange)

    def leave(self, exchange: Exchange) -> None:
        """Remove the exchange from `active` and from the queue; safe to call twice."""
        self.active.discard(exchange)
        if exchange.queued:
            self.step_out(exchange)  # its entry in the queue is skipped when its turn comes
            self._compact(self._queues[exchange.routed.line])  # until then the entry keeps the exchange in memory

    @property
    def held(self) -> int:
        """Entries in all queues, those of requests that no longer wait included."""
        return sum(map(len, self._queues.values()))

    def wait(self, exchange: Exchange, also: Sequence[str] = ()) -> None:
        """Put the exchange in the queues of its own pool and of the pools `also`, which may serve it too.

        Raises Saturated when `max_queue` requests already wait.
        """
        if self.queued >= self._limits.max_queue:
            raise Saturated(
                f"Every pod of pool {exchange.routed.pool!r} is at its limit and {self.queued} requests already wait.",
                retry_after_s=1.0,
            )
        self.step_back(exchange)
        self.join(exchange, (exchange.routed.line, *also))

    def join(self, exchange: Exchange, pools: Sequence[str]) -> None:
        """Put an exchange that waits in the queues of these pools as well."""
        info = exchange.routed.info
        priority = info.priority if info is not None else 0
        entry = (-priority, next(self._ticket), exchange)
        for pool in pools:
            queue = self._queues.setdefault(pool, [])
            self._compact(queue)
            heapq.heappush(queue, entry)

    def step_out(self, exchange: Exchange) -> None:
        """Mark the exchange as not waiting. Its entries stay in the queues until they are reached or compacted."""
        exchange.queued = False
        self.queued -= 1

    def step_back(self, exchange: Exchange) -> None:
        """Mark the exchange as waiting, at its old position if its entry is still there."""
        exchange.queued = True
        self.queued += 1

    def _compact(self, queue: PoolQueue) -> None:
        if len(queue) > 2 * self.queued + SLACK:
            queue[:] = [entry for entry in queue if entry[2].queued]
            heapq.heapify(queue)

    def lines(self, pool: str) -> list[str]:
        """The queue of a pool and those of its pods in which something waits."""
        return [line for line in self._queues if line.partition(POD_LINE)[0] == pool]

    def serve(self, pool: str, attempt: Callable[[Exchange], bool], *, mixed: bool = False) -> None:
        """`pool` has room: call `attempt` for its queued exchanges in order, until it returns False (no more room).
        `mixed`: that is said of the exchange's model only, and those of other models are tried."""
        queue = self._queues.get(pool)
        if queue is None:
            return
        if mixed:
            self._serve_models(queue, attempt)
        while queue and not mixed:
            entry = heapq.heappop(queue)
            exchange = entry[2]
            if exchange.queued and not self._placed(exchange, attempt):
                heapq.heappush(queue, entry)
                break
        if not queue and POD_LINE in pool:
            del self._queues[pool]  # one for each pod that was ever waited for would stay

    def _serve_models(self, queue: PoolQueue, attempt: Callable[[Exchange], bool]) -> None:
        """Serve each model until there is no more room for it. All entries may have to be passed, so they are sorted
        once and not taken off the heap one by one, which takes three times as long."""
        entries = sorted(queue)
        queue.clear()  # attempts may add to it
        full: set[str] = set()
        kept: PoolQueue = []
        for entry in entries:
            exchange = entry[2]
            if not exchange.queued:
                continue
            model = exchange.routed.call.model
            if model not in full:
                if self._placed(exchange, attempt):
                    continue
                full.add(model)
            kept.append(entry)
        added, queue[:] = queue[:], kept  # what is sorted is a heap
        for entry in added:
            heapq.heappush(queue, entry)

    def _placed(self, exchange: Exchange, attempt: Callable[[Exchange], bool]) -> bool:
        """Whether the attempt placed an exchange that waits; else it waits on."""
        self.step_out(exchange)
        if attempt(exchange):
            return True
        self.step_back(exchange)
        return False
