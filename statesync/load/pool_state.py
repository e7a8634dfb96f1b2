"""One pool's candidates and their columns, in the form in which a snapshot hands them out.

What is known of one pod is its `PodState`. Knows no request, no other replica and no clock: `view.py` decides what
changes, this file keeps the columns in step with it.

A change marks a pod's state dirty. The next snapshot recomputes only the dirty pods' cells and copies the columns at C
speed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, TypeVar

from schedulers.ttft import KV_FULL, OVERDUE, admission_s
from schedulers.types import NOWHERE, Candidate, Columns, LoadSnapshot, PodId, PodLoad
from statesync.errors import NoRoutablePod, PoolSaturated, StateError
from statesync.load.cost_model import CostModel
from statesync.load.decaying_rate import DecayingRate
from statesync.load.learned_limit import NO_LIMIT
from statesync.load.pod_state import Charge, PodState
from statesync.types import PodStatus

# A fifth of the time that the named tuples' own constructors take. The values stand in the order of the fields; a test
# compares each by name.
_new: Final = tuple.__new__

TTFT_ALPHA: Final = 0.2
"""Weight of the newest time to first token in its moving averages: the last ten answers make 90 % of them."""

_T = TypeVar("_T")


class PoolState:
    """A pool: its pods in discovery's order, and the columns of those that may be picked (the candidates)."""

    def __init__(self, pool: str, home: Mapping[str, str] = NOWHERE) -> None:
        self.pool, self.home = pool, home
        self.generation = 0
        """Changes with the candidates: the same generation means the same pods at the same positions."""
        self.members: dict[PodId, PodState] = {}
        self.remote_rate = DecayingRate()
        """The other replicas' dispatches to this pool, all together."""
        self.model = CostModel()
        self.latest: LoadSnapshot | None = None
        """The last snapshot if nothing has changed since, else None."""
        self.mixed = False
        """Whether some pods serve other models than others: then a model's candidates are a `Subset`."""
        self._dirty: list[PodState] = []
        self._pod_states: list[PodState] = []
        """Of the candidates, in their order; so are the lists that follow."""
        self._candidates: list[Candidate] = []
        self._tokens: list[float] = []
        self._until: list[float] = []
        self._wait: list[float] = []
        self._pace: list[float] = []
        self._queue: list[float] = []
        self._kv_usage: list[float] = []
        self._kv_shared: tuple[float, ...] | None = None
        """`_kv_usage` as a tuple; None once it changed. It changes with reports only, not with
        requests: sharing them saves 4 us a snapshot at 1,000 pods."""
        self._inflight = self._prefill_work = 0
        self._limits = self._places = self._unblocked = 0
        """Sums of limits: of the candidates, and of all pods that are not blocked, with the number of these."""
        self._positions: dict[PodId, int] = {}
        self._positions_shared = False

    def __len__(self) -> int:
        return len(self._pod_states)

    def changed(self, pod_state: PodState) -> bool:
        """Note that a pod's state changed; True if the pod has just become a candidate."""
        if pod_state.blockers or pod_state.requests + pod_state.other_requests >= pod_state.limit:
            if pod_state.position >= 0:
                self._leave(pod_state)
            self._count_places(pod_state, 0 if pod_state.blockers else pod_state.limit)
            return False
        if pod_state.position < 0:
            self._join(pod_state)
            return True
        if not pod_state.dirty:
            pod_state.dirty = True
            self._dirty.append(pod_state)
            self.latest = None
        return False

    def adopted(self, pod_state: PodState) -> bool:
        """As `changed`, for a pod with a new description: caches by generation become invalid."""
        self.generation += 1
        return self.changed(pod_state)

    def answered(self, pod_state: PodState, seconds: float, expected_s: float) -> None:
        """Take a time to first token into the pod's moving averages, and what was expected of it; 0.0: nothing."""
        old = pod_state.ttft_ewma_s
        pod_state.ttft_ewma_s = old + TTFT_ALPHA * (seconds - old) if old else seconds
        if expected_s > 0.0 and seconds > 0.0:
            error = (expected_s - seconds if expected_s > seconds else seconds - expected_s) / seconds
            weight = TTFT_ALPHA if pod_state.expected_ewma_s else 1.0
            pod_state.expected_ewma_s += weight * (expected_s - pod_state.expected_ewma_s)
            pod_state.ttft_error += weight * (error - pod_state.ttft_error)
        self.learn(pod_state)
        self.changed(pod_state)

    def learn(self, pod_state: PodState) -> None:
        """Update the pod's speed and the pool's costs from the duration of the pod's last prefill."""
        decoding = pod_state.requests + pod_state.other_requests - pod_state.prefilling - pod_state.other_prefilling
        tokens = (pod_state.tokens + pod_state.other_tokens) * pod_state.kv_share
        if not pod_state.collect(max(decoding, 0), tokens):
            return
        took_s, parts = pod_state.took_s, pod_state.parts
        pod_state.took_s, pod_state.parts = 0.0, (0.0, 0.0, 0.0, 0.0)
        if self.model.learn(pod_state.speed, took_s, parts):
            for each in self.members.values():
                self.changed(each)

    def expected_s(self, pod_state: PodState, charge: Charge) -> float:
        """Seconds until the first token of a request that is about to be counted onto the pod; 0.0 where the pod has
        changed since the last snapshot, or cannot be picked."""
        at = pod_state.position
        if at < 0 or pod_state.dirty:
            return 0.0
        # `ttft.start_in`, without a call. A test holds them equal.
        due, least = self._until[at], self._wait[at]
        ahead = due - charge.since
        if ahead < least:
            ahead = late if due and (late := ahead * -OVERDUE) > least else least
        expected_s = ahead + charge.work * self._pace[at]
        if pod_state.kv_capacity_tokens:
            share, tokens = pod_state.kv_share, pod_state.tokens + pod_state.other_tokens
            room = pod_state.kv_capacity_tokens * KV_FULL
            expected_s += admission_s(tokens * share, room, charge.tokens * share, pod_state.e2e_ewma_s)
        return expected_s

    def add(self, pod_state: PodState) -> bool:
        """Make the pod a member; True if it is a candidate at once."""
        pod_state.pool = self.pool
        self.members[pod_state.pod.id] = pod_state
        return self.changed(pod_state)

    def remove(self, pod_state: PodState) -> None:
        """End the pod's membership."""
        if pod_state.position >= 0:
            self._leave(pod_state)
        self._count_places(pod_state, 0)
        del self.members[pod_state.pod.id]
        pod_state.pool = None

    def snapshot(self, now: float, unseen: float = 0.0) -> LoadSnapshot:
        """The candidates and columns as they are now; `now` and `unseen` become its fields of that meaning."""
        self.refresh()
        candidates, pace_s = self._candidates, self.model.pace_s
        self._positions_shared = True
        if (kv_usage := self._kv_shared) is None:
            self._kv_shared = kv_usage = tuple(self._kv_usage)
        until, wait = tuple(self._until), tuple(self._wait)
        self.latest = made = _new(
            LoadSnapshot,
            (
                self.pool,
                self.generation,
                now,
                unseen,
                tuple(candidates),
                _new(Columns, (tuple(self._tokens), until, wait, tuple(self._pace), tuple(self._queue), kv_usage)),
                self._prefill_work * pace_s / len(candidates),
                pace_s,
                self.home,
                self._positions,
                self._inflight,
            ),
        )
        return made

    def refresh(self) -> None:
        """Recompute the cells of the pods that have changed."""
        candidates, costs = self._candidates, self.model.costs
        for pod_state in self._dirty:
            pod_state.dirty = False
            at = pod_state.position
            load, self._tokens[at], self._until[at], self._wait[at], self._queue[at] = pod_state.cells(costs)
            candidates[at] = _new(Candidate, (pod_state.pod, load))
            inflight = pod_state.requests + pod_state.other_requests
            work = pod_state.prefill_work + pod_state.other_prefill_work
            self._inflight += inflight - pod_state.shown_inflight
            self._prefill_work += work - pod_state.shown_work
            if pod_state.limit != pod_state.shown_limit:
                self._count_places(pod_state, pod_state.limit)
            pod_state.shown_inflight, pod_state.shown_work = inflight, work
            self._pace[at] = load.pace_s
            if self._kv_usage[at] != pod_state.kv_usage:
                self._kv_usage[at], self._kv_shared = pod_state.kv_usage, None
        if self.mixed:
            for pod_state in self._dirty:
                if pod_state.watchers:
                    _call_watchers(pod_state)
        self._dirty.clear()

    def cells_at(self, position: int) -> tuple[Candidate, float, float, float, float, float, float]:
        """A candidate and its cells, in the order of `Columns`; right after `refresh`."""
        return (
            self._candidates[position],
            self._tokens[position],
            self._until[position],
            self._wait[position],
            self._pace[position],
            self._queue[position],
            self._kv_usage[position],
        )

    def next_generation(self) -> int:
        """A number that no other snapshot of this pool has, nor any of the whole pool."""
        self.generation += 2
        return self.generation - 1

    def room(self) -> tuple[int, int, int]:
        """Free places, all places and number of the pods that are not blocked; `NO_LIMIT` for one without a limit.
        O(1): each request of a tenant that sends too much asks for it."""
        self.refresh()
        return self._limits - self._inflight, self._places, self._unblocked

    def _count_places(self, pod_state: PodState, limit: int) -> None:
        """Count the pod with this limit; with 0 it is blocked, or goes."""
        before, pod_state.shown_limit = pod_state.shown_limit, limit
        self._places += limit - before
        self._unblocked += (limit > 0) - (before > 0)
        if pod_state.position >= 0:
            self._limits += limit - before

    def status(self, pod_state: PodState) -> PodStatus:
        """One of the members in full."""
        blockers = tuple(sorted(pod_state.blockers))
        load, kept = pod_state.load(self.model.costs), tuple(sorted(pod_state.kept))
        times = pod_state.expected_ewma_s, pod_state.ttft_error
        limit = pod_state.limit if pod_state.limit < NO_LIMIT else None
        return PodStatus(
            pod_state.pod, self.pool, load, not blockers, blockers, pod_state.requests, kept, *times, limit
        )

    def _join(self, pod_state: PodState) -> None:
        self._limits += pod_state.shown_limit
        positions = self._own_positions()
        positions[pod_state.pod.id] = pod_state.position = len(self._pod_states)
        self._pod_states.append(pod_state)
        self._candidates.append(Candidate(pod_state.pod, PodLoad()))  # the next snapshot puts its load in
        for column in self._columns():
            column.append(0.0)
        pod_state.dirty = True
        self._dirty.append(pod_state)
        if pod_state.watchers:
            _call_watchers(pod_state)

    def _leave(self, pod_state: PodState) -> None:
        if pod_state.dirty:
            pod_state.dirty = False
            self._dirty.remove(pod_state)
        positions = self._own_positions()
        at = positions.pop(pod_state.pod.id)
        self._limits -= pod_state.shown_limit
        self._inflight -= pod_state.shown_inflight
        self._prefill_work -= pod_state.shown_work
        pod_state.shown_inflight = pod_state.shown_work = 0
        last = self._pod_states[-1]  # it takes the free position: no other pod moves
        fill(self._pod_states, at)
        fill(self._candidates, at)
        for column in self._columns():
            fill(column, at)
        if last is not pod_state:
            positions[last.pod.id] = last.position = at
        pod_state.position = -1
        if pod_state.watchers:
            _call_watchers(pod_state)

    def _columns(self) -> tuple[list[float], ...]:
        """The lists of numbers, for a pod that joins or leaves."""
        self._kv_shared = None
        return self._tokens, self._until, self._wait, self._pace, self._queue, self._kv_usage

    def _own_positions(self) -> dict[PodId, int]:
        """The positions, to be changed: a copy if a snapshot holds them (5 us at 1,000 pods)."""
        self.latest = None
        self.generation += 1
        if self._positions_shared:
            self._positions = self._positions.copy()
            self._positions_shared = False
        return self._positions

    def __repr__(self) -> str:
        return f"<PoolState {self.pool}: {len(self)} of {len(self.members)} pods may be picked, gen {self.generation}>"


def why_empty(pool: str, members: Mapping[PodId, PodState], what_for: str = "") -> StateError:
    """The error for these members of a pool, none of which may be picked."""
    if any(not pod_state.blockers for pod_state in members.values()):
        return PoolSaturated(f"every routable pod of pool {pool!r}{what_for} is at its max_inflight")
    return NoRoutablePod(f"pool {pool!r} has {len(members)} pods{what_for}, none of them routable")


def _call_watchers(pod_state: PodState) -> None:
    """The pod has changed: everything that copied its cells copies them again."""
    watchers, pod_state.watchers = pod_state.watchers, []
    for watcher in watchers:
        watcher.changed(pod_state)


def fill(column: list[_T], at: int) -> None:
    """Remove the entry at `at` by moving the last one there: no other entry moves."""
    last = column.pop()
    if at < len(column):
        column[at] = last
