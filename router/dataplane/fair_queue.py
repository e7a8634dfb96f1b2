"""The order of one queue: between tenants by what they got (`fair_share.py`), within a tenant by priority, then first
come. Pure: knows no exchange, no pod and no clock. Where there are no tenants, all requests are in one lane.

* The highest priority of a tenant goes first. Of all that is served while tenants of a lower one wait, `LOWER_SHARE` is
  theirs, so that none starves.
* Within one priority the tenant with the lowest counter goes first. One that has its turn keeps it until it is
  `TURN_TOKENS` ahead, so that its requests go in groups, and what they have in common is still cached (deficit longest
  prefix match: Cao et al., "Locality-aware Fair Scheduling in LLM Serving", 2025).
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Sequence
from typing import Final, Generic, Protocol, TypeVar

from router.dataplane.fair_share import PoolShares, TenantCounter

LOWER_SHARE: Final = 0.05
"""Share of a saturated pool that tenants of lower priorities get together while any of them waits."""

TURN_TOKENS: Final = 2048
"""Tokens, divided by its weight, by which a tenant may be ahead of the lowest counter and keep its turn."""


class Waiter(Protocol):
    """A request that can wait."""

    queued: bool
    """Whether it waits; its entries stay in the queues until they are reached or compacted."""


T = TypeVar("T", bound=Waiter)


class Lane(Generic[T]):
    """One tenant's requests in one queue."""

    __slots__ = ("_passed", "_sorted", "counter", "entries", "shares", "waiting")

    def __init__(self, shares: PoolShares, counter: TenantCounter) -> None:
        self.shares = shares
        self.counter = counter
        self.entries: list[tuple[int, int, T]] = []
        """A heap of (negated priority, ticket, request): highest priority first, then first come."""
        self.waiting: dict[int, int] = {}
        """By priority: its requests that wait in this queue as their own."""
        self._sorted: list[tuple[int, int, T]] = []
        self._passed: list[tuple[int, int, T]] = []

    def begins(self, priority: int) -> None:
        """One more request waits."""
        if not self.waiting:
            self.shares.begins(self.counter)
        self.waiting[priority] = self.waiting.get(priority, 0) + 1

    def ends(self, priority: int) -> None:
        """One of them does not wait any more."""
        left = self.waiting[priority] - 1
        if left:
            self.waiting[priority] = left
            return
        del self.waiting[priority]
        if not self.waiting:
            self.shares.ends(self.counter)

    def length(self) -> int:
        """How many of its requests wait."""
        return sum(self.waiting.values())

    def ahead(self, priority: int) -> int:
        """How many of them go before a new one of this priority."""
        return sum([number for each, number in self.waiting.items() if each >= priority])

    def has_any(self) -> bool:
        """Whether any entry is of a request that waits; drops the ones before that."""
        entries = self.entries
        while entries and not entries[0][2].queued:
            heapq.heappop(entries)
        return bool(entries)

    # Entries of several kinds. All of them may have to be passed, so they are sorted once and not taken off the heap
    # one by one, which takes three times as long.

    def open(self) -> None:
        """Begin a pass over all entries; those that are added meanwhile are not part of it."""
        self._sorted, self._passed, self.entries = sorted(self.entries, reverse=True), [], []

    def has_of_other(self, full: set[str], kind: Callable[[T], str]) -> bool:
        """Whether there is an entry of a kind that is not `full`; passes the ones before that."""
        rest = self._sorted
        while rest:
            item = rest[-1][2]
            if not item.queued:
                rest.pop()
            elif kind(item) in full:
                self.keep(rest.pop())
            else:
                return True
        return False

    def take(self) -> tuple[int, int, T]:
        """The next entry of the pass."""
        return self._sorted.pop()

    def keep(self, entry: tuple[int, int, T]) -> None:
        """The entry stays in the queue."""
        self._passed.append(entry)

    def close(self) -> None:
        """The pass is over; what it did not reach stays in the queue."""
        added, self.entries = self.entries, self._passed + self._sorted[::-1]  # what is sorted is a heap
        self._sorted, self._passed = [], []
        for entry in added:
            heapq.heappush(self.entries, entry)


class FairQueue(Generic[T]):
    """The lanes of one queue."""

    def __init__(self, shares: PoolShares) -> None:
        self._shares = shares
        self.lanes: dict[str, Lane[T]] = {}
        """By tenant; requests without one have the lane of the empty name."""
        self._turn: Lane[T] | None = None
        """The lane that was served last."""
        self._owed = 0.0
        """Tokens that lower priorities have to get."""
        self._gain = 0.0
        """What a token of the lane that was chosen adds to that."""

    def __len__(self) -> int:
        """Entries, those of requests that no longer wait included."""
        return sum([len(lane.entries) for lane in self.lanes.values()])

    def lane(self, tenant: str, counter: TenantCounter) -> Lane[T]:
        """The tenant's lane."""
        found = self.lanes.get(tenant)
        if found is None:
            found = self.lanes[tenant] = Lane(self._shares, counter)
        return found

    def compact(self) -> None:
        """Drop the entries of requests that no longer wait, and lanes without any."""
        for name, lane in list(self.lanes.items()):
            lane.entries = [entry for entry in lane.entries if entry[2].queued]
            heapq.heapify(lane.entries)
            if not lane.entries and not lane.waiting:
                del self.lanes[name]

    def ahead(self, lane: Lane[T], own: int) -> float:
        """How many requests are served before one of the lane that has `own` of the lane before it, if all are of one
        size and no tenant is behind."""
        counter, before = lane.counter, float(own)
        for other in self.lanes.values():
            if other is lane or other.counter.priority < counter.priority:
                continue
            waiting = float(other.length())
            if other.counter.priority == counter.priority:
                waiting = min(waiting, own * other.counter.weight / counter.weight)
            before += waiting
        return before

    def has_room(self, lane: Lane[T], most: int) -> bool:
        """Whether the lane has less than its part of a queue for `most` requests, by the weights of those that wait."""
        others = [each.counter.weight for each in self.lanes.values() if each.waiting and each is not lane]
        weight = lane.counter.weight
        return lane.length() * (weight + sum(others)) < most * weight

    def serve(self, attempt: Callable[[T], bool], holds: Callable[[TenantCounter], bool]) -> None:
        """There is room: call `attempt` in order, until it returns False (no more room). Tenants for which `holds` is
        true wait on."""
        while True:
            lane = self._next([each for each in self.lanes.values() if each.has_any() and not holds(each.counter)])
            if lane is None:
                break
            entry = heapq.heappop(lane.entries)
            if not self._placed(lane, entry[2], attempt):
                heapq.heappush(lane.entries, entry)
                break

    def serve_kinds(
        self, attempt: Callable[[T], bool], holds: Callable[[TenantCounter], bool], kind: Callable[[T], str]
    ) -> None:
        """As `serve`, where there is room for requests of some kinds: each is served until there is no more for it."""
        lanes = list(self.lanes.values())
        for lane in lanes:
            lane.open()
        full: set[str] = set()
        while True:
            chosen = self._next([each for each in lanes if each.has_of_other(full, kind) and not holds(each.counter)])
            if chosen is None:
                break
            entry = chosen.take()
            of_kind = kind(entry[2])
            if not self._placed(chosen, entry[2], attempt):
                full.add(of_kind)
                chosen.keep(entry)
        for lane in lanes:
            lane.close()

    def _placed(self, lane: Lane[T], item: T, attempt: Callable[[T], bool]) -> bool:
        counter = lane.counter
        before = counter.virtual
        if not attempt(item):
            return False
        self._turn = lane
        self._owed += self._gain * (counter.virtual - before) * counter.weight
        return True

    def _next(self, lanes: Sequence[Lane[T]]) -> Lane[T] | None:
        """Which of the lanes, each of which has a request that waits, is served next."""
        if not lanes:
            return None
        highest = max([lane.counter.priority for lane in lanes])
        high = [lane for lane in lanes if lane.counter.priority == highest]
        if len(high) == len(lanes):
            self._owed = self._gain = 0.0
            return self._lowest(high)
        if self._owed > 0.0:
            self._gain = LOWER_SHARE - 1.0
            return self._lowest([lane for lane in lanes if lane.counter.priority < highest])
        self._gain = LOWER_SHARE
        return self._lowest(high)

    def _lowest(self, lanes: Sequence[Lane[T]]) -> Lane[T]:
        """The lane with the lowest counter, or the one that has its turn."""
        lowest = min(lanes, key=_virtual)
        turn = self._turn
        self._shares.raise_floor(lowest.counter)
        if turn is not None and turn in lanes:
            counter = turn.counter
            if counter.virtual <= lowest.counter.virtual + TURN_TOKENS / counter.weight:
                return turn
        return lowest


def _virtual(lane: Lane[T]) -> float:
    return lane.counter.virtual
