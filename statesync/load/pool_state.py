"""One pool's candidates, kept in the form in which a snapshot hands them out.

Here are the columns of a pool; what is known of one pod is its `PodState`. This file knows no request, no other
replica and no clock; `view.py` decides what changes, this file keeps the columns in step with it.

A change marks its seat dirty; the next snapshot rebuilds only the dirty cells and copies the columns at C speed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from schedulers.ttft import first_token_work, outlook, step_work
from schedulers.types import DECODE_TOKENS_EACH, NOWHERE, Candidate, LoadSnapshot, PodId, PodLoad
from statesync.load.columns import fill
from statesync.load.decaying_rate import DecayingRate
from statesync.load.pod_state import PodState
from statesync.load.prefill_speed import PrefillSpeed

_new: Final = tuple.__new__


class PoolState:
    """A pool: its pods in discovery's order, and the columns of those that may be picked."""

    def __init__(self, pool: str, home: Mapping[str, str] = NOWHERE) -> None:
        self.pool, self.home = pool, home
        self.generation = 0
        """Changes with the candidates: the same generation means the same pods in the same places."""
        self.members: dict[PodId, PodState] = {}
        self.elsewhere = DecayingRate()
        """How fast the other replicas dispatch to this pool, all together."""
        self.pace = PrefillSpeed()
        self._latest: LoadSnapshot | None = None
        self._dirty: list[PodState] = []
        self._row: list[PodState] = []
        self._candidates: list[Candidate] = []
        self._tokens: list[float] = []
        self._until: list[float] = []
        self._wait: list[float] = []
        self._pace: list[float] = []
        self._queue: list[float] = []
        self._kv_usage: list[float] = []
        self._seldom: tuple[tuple[float, ...], tuple[float, ...]] | None = None
        """`_pace` and `_kv_usage` as the last snapshot has them, until one changes: 4 us a snapshot at 1,000 pods."""
        self._inflight = self._prefill_work = 0
        self._positions: dict[PodId, int] = {}
        self._positions_shared = False

    def __len__(self) -> int:
        return len(self._row)

    def changed(self, pod_state: PodState) -> bool:
        """Bring the columns in step with a seat that changed; True if it became a candidate just now."""
        if pod_state.blockers or pod_state.requests + pod_state.other_requests >= pod_state.limit:
            if pod_state.position >= 0:
                self._leave(pod_state)
            return False
        if pod_state.position < 0:
            self._join(pod_state)
            return True
        if not pod_state.dirty:
            pod_state.dirty = True
            self._dirty.append(pod_state)
            self._latest = None
        return False

    def adopted(self, pod_state: PodState) -> bool:
        """As `changed`, where the pod's description is new: whoever cached by generation must look again."""
        self.generation += 1
        return self.changed(pod_state)

    def learn(self, pod_state: PodState) -> None:
        """Take what the seat's last prompt took into its pace and the pool's."""
        if pod_state.sample is None:
            return
        seconds, prompt, uncached = pod_state.sample
        pod_state.sample = None
        decoding = pod_state.requests + pod_state.other_requests - pod_state.prefilling - pod_state.other_prefilling
        work = first_token_work(prompt, uncached, step_work(decoding, pod_state.tokens + pod_state.other_tokens))
        changed = self.pace.learn(pod_state.ratio, seconds, work)
        pod_state.pace_factor = pod_state.ratio.step()
        if changed:
            for each in self.members.values():
                self.changed(each)

    def add(self, pod_state: PodState) -> bool:
        """Make the seat a member; True if it is a candidate at once."""
        pod_state.pool_state = self
        self.members[pod_state.pod.id] = pod_state
        return self.changed(pod_state)

    def remove(self, pod_state: PodState) -> None:
        """Make the seat no member any more."""
        if pod_state.position >= 0:
            self._leave(pod_state)
        del self.members[pod_state.pod.id]
        pod_state.pool_state = None

    def snapshot(self, now: float, unseen: float = 0.0) -> LoadSnapshot:
        """The columns as a value that never changes; `unseen` goes into it as it is."""
        candidates, tokens = self._candidates, self._tokens
        for pod_state in self._dirty:
            pod_state.dirty = False
            load, at = pod_state.load(), pod_state.position
            queued, _, kv, inflight, its_tokens, _, _, _, prefilling, work, since, pace_s, _, _, _, foreign = load
            before = candidates[at].load
            self._inflight += inflight - before.inflight
            self._prefill_work += work - before.prefill_work
            candidates[at] = _new(Candidate, (pod_state.pod, load))
            # `token_load` without calls and look-ups: 0.05 us against 0.2. A test holds them equal.
            tokens[at] = its_tokens + DECODE_TOKENS_EACH * (inflight + foreign)
            self._until[at], self._wait[at] = outlook(inflight, its_tokens, prefilling, work, since, pace_s)
            self._queue[at] = float(queued if queued > prefilling else prefilling)  # `queue_length` likewise
            if self._pace[at] != pace_s or self._kv_usage[at] != kv:
                self._pace[at], self._kv_usage[at], self._seldom = pace_s, kv, None
        self._dirty.clear()
        self._positions_shared = True
        if (seldom := self._seldom) is None:
            self._seldom = seldom = tuple(self._pace), tuple(self._kv_usage)
        self._latest = _new(
            LoadSnapshot,
            (
                self.pool,
                self.generation,
                now,
                unseen,
                tuple(candidates),
                self._positions,
                tuple(tokens),
                self._inflight,
                tuple(self._until),
                tuple(self._wait),
                seldom[0],
                self._prefill_work * self.pace.s / len(candidates),
                self.pace.s,
                self.home,
                tuple(self._queue),
                seldom[1],
            ),
        )
        return self._latest

    @property
    def latest(self) -> LoadSnapshot | None:
        """The last snapshot while nothing has changed since, else None."""
        return self._latest

    def _join(self, pod_state: PodState) -> None:
        positions = self._own_positions()
        positions[pod_state.pod.id] = pod_state.position = len(self._row)
        self._row.append(pod_state)
        self._candidates.append(Candidate(pod_state.pod, PodLoad()))  # its numbers come with the next snapshot
        for column in self._columns():
            column.append(0.0)
        pod_state.dirty = True
        self._dirty.append(pod_state)

    def _leave(self, pod_state: PodState) -> None:
        if pod_state.dirty:
            pod_state.dirty = False
            self._dirty.remove(pod_state)
        positions = self._own_positions()
        at = positions.pop(pod_state.pod.id)
        self._inflight -= self._candidates[at].load.inflight
        self._prefill_work -= self._candidates[at].load.prefill_work
        last = self._row[-1]  # it takes the free place: nobody else moves
        fill(self._row, at)
        fill(self._candidates, at)
        for column in self._columns():
            fill(column, at)
        if last is not pod_state:
            positions[last.pod.id] = last.position = at
        pod_state.position = -1

    def _columns(self) -> tuple[list[float], ...]:
        """The columns of numbers, for one that joins or leaves."""
        self._seldom = None
        return self._tokens, self._until, self._wait, self._pace, self._queue, self._kv_usage

    def _own_positions(self) -> dict[PodId, int]:
        """The positions, to be changed: a copy if a snapshot holds them (5 us with 1,000 pods)."""
        self._latest = None
        self.generation += 1
        if self._positions_shared:
            self._positions = self._positions.copy()
            self._positions_shared = False
        return self._positions

    def __repr__(self) -> str:
        return f"<Lineup {self.pool}: {len(self)} of {len(self.members)} pods may be picked, gen {self.generation}>"
