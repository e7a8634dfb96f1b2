"""What is known of one pod: this replica's counts, the others' sum, the engine's report. Knows no request and no clock;
`view.py` decides what changes, `pool_state.py` keeps a pool's columns in step with it.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Final

from schedulers.ttft import PACE_S
from schedulers.types import NO_ADAPTERS, Pod, PodLoad
from statesync.load.prefill_speed import SpeedRatio
from statesync.types import EngineReport, InflightNumbers

if TYPE_CHECKING:
    from statesync.load.pool_state import PoolState

# A named tuple's own constructor costs 0.59 us for a PodLoad, this 0.26 us: it is built several times a request.
_new: Final = tuple.__new__

NO_LIMIT: Final = sys.maxsize

E2E_ALPHA: Final = 0.1
"""Weight of the newest stay in its moving average."""


class PodState:
    """What is known of one pod: this replica's counts, the others' sum, the engine's report, the blockers."""

    __slots__ = (
        "adapters",
        "blockers",
        "dirty",
        "dispatched",
        "e2e_ewma_s",
        "foreign",
        "head_since",
        "kv_capacity_tokens",
        "kv_usage",
        "limit",
        "other_prefill_tokens",
        "other_prefill_work",
        "other_prefilling",
        "other_requests",
        "other_tokens",
        "pace_factor",
        "peak",
        "pod",
        "pool_state",
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
        self.pool_state: PoolState | None = None
        """The pool it belongs to; None once discovery dropped the pod while requests are still open."""
        self.position = -1
        """Where it stands among the pool's candidates; -1 when it is not one."""
        self.dirty = False
        self.requests = self.tokens = self.prefill_tokens = self.prefilling = self.prefill_work = 0
        self.peak = 0
        """The most that was in flight at a time, theirs and ours, since the engine's last report."""
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
        self.queued = self.running = self.foreign = self.kv_capacity_tokens = 0
        self.peak = self.requests
        self.kv_usage = self.ttft_ewma_s = self.e2e_ewma_s = self.reported_at = 0.0
        self.adapters = NO_ADAPTERS
        self.ratio = SpeedRatio()
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
        if self.requests + self.other_requests > self.peak:
            self.peak = self.requests + self.other_requests
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
        if self.requests + self.other_requests > self.peak:
            self.peak = self.requests + self.other_requests
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
        # Of what the engine holds, as much is ours as was in flight at any time since it last said: its page is of a
        # moment in between, and what has ended meanwhile is no load.
        self.foreign = max(0, self.queued + self.running - self.peak)
        self.peak = self.requests + self.other_requests
        if report.kv_usage is not None:
            self.kv_usage = report.kv_usage
        if report.kv_capacity_tokens is not None:
            self.kv_capacity_tokens = report.kv_capacity_tokens
        self.adapters = report.adapters or self.adapters
        if self.pool_state is not None and self.reported_at:
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
                (self.pool_state.pace.s if self.pool_state is not None else PACE_S) * self.pace_factor,
                self.kv_capacity_tokens,
                self.e2e_ewma_s,
                self.adapters,
                self.foreign,
            ),
        )

    def __repr__(self) -> str:
        where = self.pool_state.pool if self.pool_state is not None else "gone"
        blocked = f" blocked by {', '.join(sorted(self.blockers))}" if self.blockers else ""
        return f"<Seat {self.pod.id} in {where}: {self.requests}+{self.other_requests} in flight{blocked}>"
