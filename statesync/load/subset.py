"""Those pods of a pool that serve certain models, with columns of their own, in the form in which a snapshot hands them
out.

The pool computes every pod's cells (`pool_state.py`); a subset copies those that changed since its last snapshot. Which
pods belong to it is decided by `eligibility.py`. Knows no model, no request and no clock.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from schedulers.types import Candidate, Columns, LoadSnapshot, Pod, PodId, PodLoad
from statesync.load.pod_state import PodState
from statesync.load.pool_state import PoolState, fill

_new: Final = tuple.__new__  # see `pool_state.py`

NO_LOAD: Final = PodLoad()
_UNREAD: Final = Candidate(Pod(PodId(""), ""), NO_LOAD)
"""Holds a candidate's place until its cells are copied."""


class Subset:
    """Some pods of a pool, and the columns of those among them that may be picked."""

    def __init__(self, pool_state: PoolState, pods: Iterable[PodState]) -> None:
        self._pool = pool_state
        self.members: dict[PodId, PodState] = {}
        self.models = 0
        """Models that this subset serves; one without any is given up."""
        self.latest: LoadSnapshot | None = None
        """The last snapshot if nothing has changed since, else None. Valid after `PoolState.refresh`."""
        self._generation = 0
        self._stale: list[PodState] = []
        """Members whose cells have changed. Every other member has this subset among its `watchers`."""
        self._candidates: list[Candidate] = []
        self._tokens: list[float] = []
        self._until: list[float] = []
        self._wait: list[float] = []
        self._pace: list[float] = []
        self._queue: list[float] = []
        self._kv_usage: list[float] = []
        self._inflight = self._work = 0
        self._positions: dict[PodId, int] = {}
        self._positions_shared = False
        for pod_state in pods:
            self.add(pod_state)

    def add(self, pod_state: PodState) -> None:
        """Make the pod a member."""
        self.members[pod_state.pod.id] = pod_state
        self.changed(pod_state)

    def remove(self, pod_state: PodState) -> None:
        """End the pod's membership."""
        del self.members[pod_state.pod.id]
        if pod_state in self._stale:
            self._stale.remove(pod_state)
        else:
            pod_state.watchers.remove(self)
        if pod_state.pod.id in self._positions:
            self._leave(pod_state.pod.id)

    def changed(self, pod_state: PodState) -> None:
        """Note that a pod's cells have changed, or that it became a candidate or ceased to be one. Called once; then
        `refresh` makes this subset a watcher of the pod again."""
        if pod_state.pod.id in self.members:
            self._stale.append(pod_state)
            self.latest = None

    def give_up(self) -> None:
        """No model uses this subset any more: its pods forget it with their next change."""
        self.members.clear()
        self._stale.clear()

    def routable(self) -> bool:
        """Whether a member is blocked by nothing but its `max_inflight`."""
        return any(not pod_state.blockers for pod_state in self.members.values())

    def __len__(self) -> int:
        """Members that may be picked; right after `refresh`."""
        return len(self._candidates)

    def refresh(self) -> None:
        """Copy the cells that have changed. The pool's own must be current."""
        for pod_state in self._stale:
            pod = pod_state.pod.id
            if pod_state.position >= 0:
                self._copy(pod, pod_state.position)
            elif pod in self._positions:
                self._leave(pod)
            pod_state.watchers.append(self)
        self._stale.clear()

    def snapshot(self, now: float, unseen: float) -> LoadSnapshot:
        """As `PoolState.snapshot`, after `refresh`. `unseen` is that of the whole pool."""
        self._positions_shared = True
        candidates, pool = tuple(self._candidates), self._pool
        columns = (self._tokens, self._until, self._wait, self._pace, self._queue, self._kv_usage)
        self.latest = made = _new(
            LoadSnapshot,
            (
                pool.pool,
                self._generation,
                now,
                unseen * len(candidates) / len(pool),
                candidates,
                _new(Columns, tuple([tuple(column) for column in columns])),
                self._work * pool.model.pace_s / len(candidates),
                pool.model.pace_s,
                pool.home,
                self._positions,
                self._inflight,
            ),
        )
        return made

    def _copy(self, pod: PodId, position: int) -> None:
        at = self._positions.get(pod, -1)
        if at < 0:
            at = self._join(pod)
        before = self._candidates[at]
        (
            self._candidates[at],
            self._tokens[at],
            self._until[at],
            self._wait[at],
            self._pace[at],
            self._queue[at],
            self._kv_usage[at],
        ) = self._pool.cells_at(position)
        after = self._candidates[at]
        self._count(before.load, after.load)
        if before.pod is not after.pod and before is not _UNREAD:
            self._generation = self._pool.next_generation()  # discovery describes the pod anew

    def _count(self, before: PodLoad, after: PodLoad) -> None:
        """Replace one candidate's load in the totals."""
        self._inflight += after.inflight - before.inflight
        self._work += after.prefill_work - before.prefill_work

    def _join(self, pod: PodId) -> int:
        positions = self._own_positions()
        at = positions[pod] = len(self._candidates)
        self._candidates.append(_UNREAD)
        for column in self._columns():
            column.append(0.0)
        return at

    def _leave(self, pod: PodId) -> None:
        positions = self._own_positions()
        at = positions.pop(pod)
        self._count(self._candidates[at].load, NO_LOAD)
        last = self._candidates[-1][0].id  # it takes the free position: no other pod moves
        fill(self._candidates, at)
        for column in self._columns():
            fill(column, at)
        if last != pod:
            positions[last] = at

    def _columns(self) -> tuple[list[float], ...]:
        return self._tokens, self._until, self._wait, self._pace, self._queue, self._kv_usage

    def _own_positions(self) -> dict[PodId, int]:
        """The positions, to be changed: a copy if a snapshot holds them. The pods change, so the generation does."""
        self.latest = None
        self._generation = self._pool.next_generation()
        if self._positions_shared:
            self._positions = self._positions.copy()
            self._positions_shared = False
        return self._positions

    def __repr__(self) -> str:
        return f"<Subset of {self._pool.pool}: {len(self)} of {len(self.members)} pods may be picked>"
