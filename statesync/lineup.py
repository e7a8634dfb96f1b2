"""One pool's candidates, kept in the form in which a snapshot hands them out.

Here are the counts of a pod (`Seat`) and the columns of a pool (`Lineup`). This file knows no request, no other
replica and no clock; `view.py` decides what changes, this file keeps the columns in step with it.

A change marks its seat dirty; the next snapshot rebuilds only the dirty cells and copies the columns at C speed.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Final

from schedulers.ttft import PACE_S, first_token_work, outlook, step_work
from schedulers.types import DECODE_TOKENS_EACH, NO_ADAPTERS, NOWHERE, Candidate, LoadSnapshot, Pod, PodId, PodLoad
from statesync.columns import fill
from statesync.pace import PoolPace, Ratio
from statesync.tempo import Tempo
from statesync.types import EngineReport, InflightNumbers

# A named tuple's own constructor costs 0.59 us for a PodLoad, this 0.26 us: it is built several times a request.
_new: Final = tuple.__new__

NO_LIMIT: Final = sys.maxsize

E2E_ALPHA: Final = 0.1
"""Weight of the newest stay in its moving average."""


class Seat:
    """What is known of one pod: this replica's counts, the others' sum, the engine's report, the blockers."""

    __slots__ = (
        "adapters",
        "blockers",
        "dirty",
        "dispatched",
        "e2e_ewma_s",
        "head_since",
        "kv_capacity_tokens",
        "kv_usage",
        "limit",
        "lineup",
        "other_prefill_tokens",
        "other_prefill_work",
        "other_prefilling",
        "other_requests",
        "other_tokens",
        "pace_factor",
        "pod",
        "position",
        "prefill_tokens",
        "prefill_work",
        "prefilling",
        "queued",
        "ratio",
        "reported_at",
        "requests",
        "running",
        "sample",
        "tokens",
        "ttft_ewma_s",
    )

    def __init__(self, pod: Pod) -> None:
        self.lineup: Lineup | None = None
        """The pool it belongs to; None once discovery dropped the pod while requests are still open."""
        self.position = -1
        """Where it stands among the pool's candidates; -1 when it is not one."""
        self.dirty = False
        self.requests = self.tokens = self.prefill_tokens = self.prefilling = self.prefill_work = 0
        self.head_since = 0.0
        """Since when the first of the prompts is computed, theirs and ours: nobody was before it, or one just came
        back. Means nothing if there is none."""
        self.dispatched = 0
        """Counter: requests this replica ever sent there."""
        self.pod = pod
        self.blockers: set[str] = set()
        self.adopt(pod)
        self.start_over()

    def adopt(self, pod: Pod) -> None:
        """Take discovery's newest description of the pod."""
        self.blockers.discard(self.pod.unready)
        if pod.unready:
            self.blockers.add(pod.unready)
        self.pod = pod
        self.limit = NO_LIMIT if pod.max_inflight is None else pod.max_inflight

    def start_over(self) -> None:
        """Forget all but this replica's own open requests: the pod has just (re)appeared."""
        self.other_requests = self.other_tokens = self.other_prefill_tokens = 0
        self.other_prefilling = self.other_prefill_work = 0
        self.queued = self.running = self.kv_capacity_tokens = 0
        self.kv_usage = self.ttft_ewma_s = self.e2e_ewma_s = self.reported_at = 0.0
        self.adapters = NO_ADAPTERS
        self.ratio = Ratio()
        """How many times its pool's pace it is, as learned."""
        self.pace_factor = 1.0
        """The same in steps."""
        self.sample: tuple[float, int, int] | None = None
        """What the last prompt of ours took, its work and its uncached tokens: a pace is learned from it, if it was a
        stream's."""
        self.blockers = {self.pod.unready} if self.pod.unready else set()

    def own(self) -> InflightNumbers:
        """This replica's absolute numbers."""
        return _new(
            InflightNumbers,
            (self.requests, self.tokens, self.prefill_tokens, self.dispatched, self.prefilling, self.prefill_work),
        )

    def begin(self, tokens: int, prefill_tokens: int, work: int, now: float) -> None:
        """Count a request of ours."""
        if not self.prefilling and not self.other_prefilling:
            self.head_since = now
        self.requests += 1
        self.dispatched += 1
        self.tokens += tokens
        self.prefill_tokens += prefill_tokens
        self.prefilling += 1
        self.prefill_work += work

    def prefilled(self, prefill_tokens: int, work: int, now: float) -> None:
        """The first token of a request of ours is back: the next prompt is computed from now on."""
        self.sample = now - self.head_since, work, prefill_tokens
        self.prefilling -= 1
        self.prefill_tokens -= prefill_tokens
        self.prefill_work -= work
        self.head_since = now

    def shift_others(self, old: InflightNumbers, new: InflightNumbers, now: float) -> None:
        """Put `new` in place of `old` in the other replicas' sum."""
        came_back = new.dispatched - old.dispatched - new.prefilling + old.prefilling
        if came_back > 0 or not (self.prefilling or self.other_prefilling):
            self.head_since = now
        self.other_requests += new.requests - old.requests
        self.other_tokens += new.tokens - old.tokens
        self.other_prefill_tokens += new.prefill_tokens - old.prefill_tokens
        self.other_prefilling += new.prefilling - old.prefilling
        self.other_prefill_work += new.prefill_work - old.prefill_work

    def stayed(self, seconds: float) -> None:
        """A request of ours that was answered has ended, so long after it was sent."""
        old = self.e2e_ewma_s
        self.e2e_ewma_s = old + E2E_ALPHA * (seconds - old) if old else seconds

    def read(self, report: EngineReport, at: float) -> None:
        """Take an engine's report, read at this time; what it does not say stays as it was."""
        if report.queued is not None:
            self.queued = report.queued
        if report.running is not None:
            self.running = report.running
        if report.kv_usage is not None:
            self.kv_usage = report.kv_usage
        if report.kv_capacity_tokens is not None:
            self.kv_capacity_tokens = report.kv_capacity_tokens
        self.adapters = report.adapters or self.adapters
        if self.lineup is not None and self.reported_at:
            self.ratio.fade(at - self.reported_at)
            self.pace_factor = self.ratio.step()
        self.reported_at = at

    def load(self) -> PodLoad:
        """All of it as a policy sees it."""
        return _new(
            PodLoad,
            (
                self.queued,
                self.running,
                self.kv_usage,
                self.requests + self.other_requests,
                self.tokens + self.other_tokens,
                self.prefill_tokens + self.other_prefill_tokens,
                self.ttft_ewma_s,
                self.reported_at,
                self.prefilling + self.other_prefilling,
                self.prefill_work + self.other_prefill_work,
                self.head_since,
                (self.lineup.pace.s if self.lineup is not None else PACE_S) * self.pace_factor,
                self.kv_capacity_tokens,
                self.e2e_ewma_s,
                self.adapters,
            ),
        )

    def __repr__(self) -> str:
        where = self.lineup.pool if self.lineup is not None else "gone"
        blocked = f" blocked by {', '.join(sorted(self.blockers))}" if self.blockers else ""
        return f"<Seat {self.pod.id} in {where}: {self.requests}+{self.other_requests} in flight{blocked}>"


class Lineup:
    """A pool: its pods in discovery's order, and the columns of those that may be picked."""

    def __init__(self, pool: str, home: Mapping[str, str] = NOWHERE) -> None:
        self.pool, self.home = pool, home
        self.generation = 0
        """Changes with the candidates: the same generation means the same pods in the same places."""
        self.members: dict[PodId, Seat] = {}
        self.elsewhere = Tempo()
        """How fast the other replicas dispatch to this pool, all together."""
        self.pace = PoolPace()
        self._latest: LoadSnapshot | None = None
        self._dirty: list[Seat] = []
        self._row: list[Seat] = []
        self._candidates: list[Candidate] = []
        self._tokens: list[float] = []
        self._until: list[float] = []
        self._wait: list[float] = []
        self._pace: list[float] = []
        self._inflight = self._prefill_work = 0
        self._positions: dict[PodId, int] = {}
        self._positions_shared = False

    def __len__(self) -> int:
        return len(self._row)

    def changed(self, seat: Seat) -> bool:
        """Bring the columns in step with a seat that changed; True if it became a candidate just now."""
        if seat.blockers or seat.requests + seat.other_requests >= seat.limit:
            if seat.position >= 0:
                self._leave(seat)
            return False
        if seat.position < 0:
            self._join(seat)
            return True
        if not seat.dirty:
            seat.dirty = True
            self._dirty.append(seat)
            self._latest = None
        return False

    def adopted(self, seat: Seat) -> bool:
        """As `changed`, where the pod's description is new: whoever cached by generation must look again."""
        self.generation += 1
        return self.changed(seat)

    def learn(self, seat: Seat) -> None:
        """Take what the seat's last prompt took into its pace and the pool's."""
        if seat.sample is None:
            return
        seconds, prompt, uncached = seat.sample
        seat.sample = None
        decoding = seat.requests + seat.other_requests - seat.prefilling - seat.other_prefilling
        work = first_token_work(prompt, uncached, step_work(decoding, seat.tokens + seat.other_tokens))
        changed = self.pace.learn(seat.ratio, seconds, work)
        seat.pace_factor = seat.ratio.step()
        if changed:
            for each in self.members.values():
                self.changed(each)

    def add(self, seat: Seat) -> bool:
        """Make the seat a member; True if it is a candidate at once."""
        seat.lineup = self
        self.members[seat.pod.id] = seat
        return self.changed(seat)

    def remove(self, seat: Seat) -> None:
        """Make the seat no member any more."""
        if seat.position >= 0:
            self._leave(seat)
        del self.members[seat.pod.id]
        seat.lineup = None

    def snapshot(self, now: float, unseen: float = 0.0) -> LoadSnapshot:
        """The columns as a value that never changes; `unseen` goes into it as it is."""
        candidates, tokens = self._candidates, self._tokens
        for seat in self._dirty:
            seat.dirty = False
            load, at = seat.load(), seat.position
            queued, _, _, inflight, inflight_tokens, _, _, _, prefilling, work, head_since, pace_s, _, _, _ = load
            before = candidates[at].load
            self._inflight += inflight - before.inflight
            self._prefill_work += work - before.prefill_work
            candidates[at] = _new(Candidate, (seat.pod, load))
            # `token_load` without calls and look-ups: 0.05 us against 0.2. A test holds them equal.
            tokens[at] = inflight_tokens + DECODE_TOKENS_EACH * (inflight + queued)
            self._until[at], self._wait[at] = outlook(inflight, inflight_tokens, prefilling, work, head_since, pace_s)
            self._pace[at] = pace_s
        self._dirty.clear()
        self._positions_shared = True
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
                tuple(self._pace),
                self._prefill_work * self.pace.s / len(candidates),
                self.pace.s,
                self.home,
            ),
        )
        return self._latest

    @property
    def latest(self) -> LoadSnapshot | None:
        """The last snapshot while nothing has changed since, else None."""
        return self._latest

    def _join(self, seat: Seat) -> None:
        positions = self._own_positions()
        positions[seat.pod.id] = seat.position = len(self._row)
        self._row.append(seat)
        self._candidates.append(Candidate(seat.pod, PodLoad()))  # its numbers come with the next snapshot
        for column in self._columns():
            column.append(0.0)
        seat.dirty = True
        self._dirty.append(seat)

    def _leave(self, seat: Seat) -> None:
        if seat.dirty:
            seat.dirty = False
            self._dirty.remove(seat)
        positions = self._own_positions()
        at = positions.pop(seat.pod.id)
        self._inflight -= self._candidates[at].load.inflight
        self._prefill_work -= self._candidates[at].load.prefill_work
        last = self._row[-1]  # it takes the free place: nobody else moves
        fill(self._row, at)
        fill(self._candidates, at)
        for column in self._columns():
            fill(column, at)
        if last is not seat:
            positions[last.pod.id] = last.position = at
        seat.position = -1

    def _columns(self) -> tuple[list[float], ...]:
        return self._tokens, self._until, self._wait, self._pace

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
