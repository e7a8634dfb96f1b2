"""Stage 3: admit, queue or shed. Counts the requests that this replica has in flight and keeps a queue for each pool
that has no room, and for each pod that requests wait for. Knows no pod: `queue.py` acts on the queues, and
`fair_queue.py` has their order.
"""

from __future__ import annotations

import heapq
import time
from collections.abc import Callable, Mapping, Sequence
from itertools import count
from typing import Final

from router.access.tenants import Tenant
from router.dataplane.drain_rate import DrainRate
from router.dataplane.exchange import POD_LINE, Exchange
from router.dataplane.fair_queue import FairQueue, Lane
from router.dataplane.fair_share import FairShares, Room, TenantCounter
from router.dataplane.http.deadlines import NEVER
from router.errors import Saturated, Shed
from router.settings import Limits
from router.telemetry.scale_signals import PoolBacklog
from schedulers.ttft import ANSWER_TOKENS

SLACK: Final = 64
"""Entries of requests that no longer wait which a queue may hold before it is compacted."""

LONGEST_RETRY_S: Final = 60.0
"""Most seconds after which a refused client is asked to come again: the pool may have grown by then."""


def _unbounded(pool: str) -> tuple[int, int, int]:
    """No pod has a limit."""
    return 1, 1, 1


class PoolQueue:
    """One queue: its order, and how fast it empties."""

    __slots__ = ("order", "rate", "waiting")

    def __init__(self, order: FairQueue[Exchange], now: float) -> None:
        self.order = order
        self.rate = DrainRate(now)
        self.waiting = 0
        """Requests that wait in it as their own."""


class Admission:
    """The gate in front of dispatch."""

    def __init__(
        self,
        limits: Limits,
        clock: Callable[[], float] = time.monotonic,
        shares: FairShares | None = None,
        room: Room = _unbounded,
    ) -> None:
        """`shares`: what each tenant got; None where there are no tenants. `room` is `LoadView.room`."""
        self._limits = limits
        self._clock = clock
        self._shares = shares or FairShares({})
        self._room = room
        self._queues: dict[str, PoolQueue] = {}
        self._ticket = count()
        self.active: set[Exchange] = set()
        """Exchanges that were admitted and have not ended, the queued ones included. A drain waits for them."""
        self.waiting: dict[Exchange, tuple[PoolQueue, Lane[Exchange], int]] = {}
        """Those that wait, each with its own queue, its lane there and its priority."""

    @property
    def queued(self) -> int:
        """How many exchanges wait."""
        return len(self.waiting)

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
            self._compact(self._queue(exchange.routed.line))  # until then the entry keeps the exchange in memory

    @property
    def held(self) -> int:
        """Entries in all queues, those of requests that no longer wait included."""
        return sum([len(queue.order) for queue in self._queues.values()])

    def wait(self, exchange: Exchange, also: Sequence[str] = (), until: float = NEVER) -> None:
        """Put the exchange in the queues of its own pool and of the pools `also`, which may serve it too.

        Raises Saturated when `max_queue` requests already wait, or when it is not likely to be served before `until`. A
        tenant that has less than its part of a full queue may add to it, so that no tenant can fill it for all.
        """
        queue = self._queue(exchange.routed.line)
        now = self._clock()
        if self.queued >= self._limits.max_queue and not self._has_room(exchange, queue):
            raise Saturated(
                f"Pool {exchange.routed.pool!r} has no room and {self.queued} requests already wait.",
                retry_after_s=_drained_s(queue, queue.waiting, now),
            )
        if until < NEVER:
            lane = self._lane(exchange, queue, exchange.routed.line)
            ahead = queue.order.ahead(lane, lane.ahead(_priority(exchange)))
            if (error := _late(exchange, queue, ahead, now, until)) is not None:
                raise error
        self.step_back(exchange)
        self.join(exchange, (exchange.routed.line, *also))

    def _has_room(self, exchange: Exchange, queue: PoolQueue) -> bool:
        """Whether the exchange's tenant may add to a full queue."""
        most = self._limits.max_queue
        if exchange.tenant is None or self.queued >= 2 * most:
            return False
        return queue.order.has_room(self._lane(exchange, queue, exchange.routed.line), most)

    def late(self) -> list[tuple[Exchange, Saturated]]:
        """Those that wait and are no longer likely to leave their queue before `wait_until`, because it empties slower
        than when they came; each with its refusal."""
        now, found = self._clock(), list[tuple[Exchange, Saturated]]()
        for queue in self._queues.values():
            for lane in queue.order.lanes.values() if queue.waiting else ():
                own = 0
                for _, _, exchange in sorted(lane.entries):
                    if exchange not in self.waiting or self.waiting[exchange][0] is not queue:
                        continue
                    error = _late(exchange, queue, queue.order.ahead(lane, own), now, exchange.wait_until)
                    if error is None:
                        own += 1
                    else:
                        found.append((exchange, error))
        return found

    def forget_speed(self, pool: str) -> None:
        """How long the requests for this pool have waited says nothing of how fast they will be served."""
        if pool in self._queues:
            self._queues[pool].rate = DrainRate(self._clock())

    def drained_s(self, exchange: Exchange) -> float:
        """Seconds until those that wait in the exchange's queue have left it, as fast as it empties now."""
        queue = self._queue(exchange.routed.line)
        return _drained_s(queue, queue.waiting, self._clock())

    def lines_up(self, exchange: Exchange, tenant: Tenant) -> bool:
        """Whether the exchange of a tenant has to wait before a pod is looked for: others wait, or its tenant has to
        leave the places that are free to them."""
        line = exchange.routed.line
        queue = self._queues.get(line)
        if queue is not None and queue.waiting:
            return True
        shares = self._shares.pool(exchange.routed.pool)
        counter = shares.counters.get(tenant.name) or self._shares.counter(exchange.routed.pool, tenant.name)
        return POD_LINE not in line and shares.leaves_places(counter, self._room)

    def join(self, exchange: Exchange, pools: Sequence[str]) -> None:
        """Put an exchange that waits in the queues of these pools as well."""
        entry = (-_priority(exchange), next(self._ticket), exchange)
        for pool in pools:
            queue = self._queue(pool)
            self._compact(queue)
            heapq.heappush(self._lane(exchange, queue, pool).entries, entry)

    def step_out(self, exchange: Exchange) -> None:
        """Mark the exchange as not waiting. Its entries stay in the queues until they are reached or compacted."""
        exchange.queued = False
        queue, lane, priority = self.waiting.pop(exchange)
        queue.waiting -= 1
        if not queue.waiting:
            queue.rate.pauses(self._clock())
        lane.ends(priority)

    def step_back(self, exchange: Exchange) -> None:
        """Mark the exchange as waiting, at its old position if its entry is still there."""
        exchange.queued = True
        queue, priority = self._queue(exchange.routed.line), _priority(exchange)
        if not queue.waiting:
            queue.rate.goes_on(self._clock())
        queue.waiting += 1
        lane = self._lane(exchange, queue, exchange.routed.line)
        lane.begins(priority)
        self.waiting[exchange] = queue, lane, priority

    def backlogs(self) -> Mapping[str, PoolBacklog]:
        """What waits, by pool."""
        now, found = self._clock(), dict[str, PoolBacklog]()
        for exchange in self.waiting:
            pool = exchange.routed.pool
            known = found.get(pool) or PoolBacklog(tokens_per_s=self._queue(pool).rate.tokens_per_s(now))
            found[pool] = known._replace(
                requests=known.requests + 1,
                tokens=known.tokens + tokens_of(exchange),
                oldest_s=max(known.oldest_s, now - exchange.arrived),
            )
        return found

    def lines(self, pool: str) -> list[str]:
        """The queue of a pool and those of its pods in which something waits."""
        return [line for line in self._queues if line.partition(POD_LINE)[0] == pool]

    def serve(self, pool: str, attempt: Callable[[Exchange], bool], *, mixed: bool = False) -> None:
        """`pool` has room: call `attempt` for its queued exchanges in order, until it returns False (no more room).
        `mixed`: that is said of the exchange's model only, and those of other models are tried."""
        queue = self._queues.get(pool)
        if queue is None:
            return

        def placed(exchange: Exchange) -> bool:
            return self._placed(exchange, queue, attempt)

        shares = self._shares.pool(pool.partition(POD_LINE)[0])

        def holds(counter: TenantCounter) -> bool:
            return POD_LINE not in pool and shares.leaves_places(counter, self._room)

        if mixed:
            queue.order.serve_kinds(placed, holds, _model)
        else:
            queue.order.serve(placed, holds)
        if POD_LINE in pool and not queue.waiting and not len(queue.order):
            del self._queues[pool]  # one for each pod that was ever waited for would stay

    def _placed(self, exchange: Exchange, queue: PoolQueue, attempt: Callable[[Exchange], bool]) -> bool:
        """Whether the attempt placed an exchange that waits; else it waits on."""
        self.step_out(exchange)
        if attempt(exchange):
            if not exchange.queued:
                queue.rate.leaves(self._clock(), tokens_of(exchange))
            return True
        self.step_back(exchange)
        return False

    def _queue(self, line: str) -> PoolQueue:
        found = self._queues.get(line)
        if found is None:
            order = FairQueue[Exchange](self._shares.pool(line.partition(POD_LINE)[0]))
            found = self._queues[line] = PoolQueue(order, self._clock())
        return found

    def _lane(self, exchange: Exchange, queue: PoolQueue, line: str) -> Lane[Exchange]:
        """The exchange's lane in that queue."""
        tenant = exchange.tenant
        if tenant is None:
            return queue.order.lane("", TenantCounter())
        lane = queue.order.lanes.get(tenant.name)
        if lane is None:
            counter = self._shares.counter(line.partition(POD_LINE)[0], tenant.name)
            lane = queue.order.lane(tenant.name, counter)
        return lane

    def _compact(self, queue: PoolQueue) -> None:
        if len(queue.order) > 2 * self.queued + SLACK:
            queue.order.compact()


def tokens_of(exchange: Exchange) -> int:
    """Tokens of an exchange's prompt and of the answer that is expected."""
    call = exchange.routed.call
    return call.prompt_tokens + (call.max_tokens or ANSWER_TOKENS)


def _late(exchange: Exchange, queue: PoolQueue, ahead: float, now: float, until: float) -> Saturated | None:
    """Why the exchange, which has so many before it, is not likely to leave the queue before `until`."""
    allowed_s = max(0.0, until - now)
    if not ahead or ahead / queue.rate.at_most_per_s(now) <= allowed_s:
        return None
    return Saturated(
        f"Pool {exchange.routed.pool!r} has no room, and the {ahead:.0f} requests that go first are not served within "
        f"the {allowed_s:.3g} s that this one may wait.",
        retry_after_s=_drained_s(queue, ahead, now) - allowed_s,
    )


def _drained_s(queue: PoolQueue, requests: float, now: float) -> float:
    rate = queue.rate.per_s(now)
    return min(requests / rate, LONGEST_RETRY_S) if rate else 1.0


def _priority(exchange: Exchange) -> int:
    info = exchange.routed.info
    return info.priority if info is not None else 0


def _model(exchange: Exchange) -> str:
    return exchange.routed.call.model
