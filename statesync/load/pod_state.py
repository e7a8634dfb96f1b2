"""What is known of one pod: this replica's counts, the sum of the other replicas' counts, the engine's report.

Knows no request, no pool and no clock. `view.py` decides what changes; `pool_state.py` keeps the columns of the pod's
pool in step with it.
"""

from __future__ import annotations

import sys
from math import log2
from typing import Final, Protocol

from schedulers.slo import weight
from schedulers.ttft import outlook
from schedulers.types import DECODE_TOKENS_EACH, NO_ADAPTERS, Pod, PodId, PodLoad, RequestInfo
from statesync.load.promises import Promise, Promises
from statesync.types import EngineReport, InflightNumbers

# A named tuple's own constructor costs 0.59 us for a PodLoad, this 0.26 us: it is built several times a request. The
# values stand in the order of the fields; a test compares each by name.
_new: Final = tuple.__new__

Cells = tuple[PodLoad, float, float, float, float]
"""A pod's load, and its cells of the columns `tokens`, `until`, `wait` and `queue`."""

NO_LIMIT: Final = sys.maxsize
"""`max_inflight` of a pod that has none, in requests."""

E2E_ALPHA: Final = 0.1
"""Weight of the newest duration in the moving average of a request's time on the pod; higher follows changes sooner."""

SAMPLES: Final = 100
"""First tokens after which a sample of a pod, or of a size, weighs 1/e."""

PRIOR_S: Final = 1.0
"""Seconds of prefill after which the samples weigh as much as the prior ratio of 1: two or three prompts."""

MOST: Final = 4.0
"""Most that a sample counts, as a multiple of the expected time. A prompt that waited for KV blocks, or behind requests
unknown here, says little about the pace, and a pod that looks slow gets few samples to correct it."""

FADE_S: Final = 60.0
"""Seconds after which samples without newer ones weigh 1/e: a pod not picked because it was slow is tried again."""

STEPS: Final = 4
"""Steps in a doubling of the ratio: 19 % each."""


class Charge:
    """One request's part of a pod's load: taken by `LoadView.reserve`, given back by `prefill_done` and `release`.

    It keeps the amounts, so that exactly the amount added is subtracted, however the estimates change.
    """

    __slots__ = ("cached", "pod", "prefill_tokens", "promise", "requests", "since", "tokens", "work")

    def __init__(
        self, pod: PodId, tokens: int, prefill_tokens: int, work: int = 0, cached: int = 0, since: float = 0.0
    ) -> None:
        self.pod = pod
        self.requests = 1
        """1 until released, then 0."""
        self.tokens = tokens
        """Prompt plus expected answer tokens."""
        self.prefill_tokens = prefill_tokens
        """Uncached prompt tokens; 0 once the first token is back."""
        self.work = work
        """Their prefill work, in token equivalents; at least 1 when reserved, 0 once the first token is back."""
        self.cached = cached
        """Prompt tokens that the pod was expected to hold; does not change."""
        self.since = since
        """When it was taken, on the replica's monotonic clock; does not change."""
        self.promise: Promise | None = None
        """What the request was promised, of what the pod's load shows."""

    def __repr__(self) -> str:
        state = "open" if self.requests else "released"
        return f"<Charge {state} on {self.pod}: {self.tokens} tokens, {self.prefill_tokens} to prefill>"


class SpeedRatio:
    """How fast a pod computes prompts, learned from their first tokens: the ratio of measured times to expected ones.

    A ratio of sums, not a mean of ratios: of two prompts that one step completes, the second seems to take no time. Old
    samples decay, and a ratio from few samples is close to the prior. It is read in steps: a long prompt costs seconds
    on every pod, so a difference of a few percent between equal machines, which is noise, would outweigh all that waits
    on them.
    """

    __slots__ = ("_expected_s", "_keep", "_took_s", "value")

    def __init__(self, samples: int = SAMPLES) -> None:
        self.value = 1.0
        self._keep = 1.0 - 1.0 / samples
        self._took_s = self._expected_s = 0.0

    def learn(self, took_s: float, expected_s: float) -> None:
        """Take one sample; `expected_s` is above 0."""
        most = MOST * self.value * expected_s
        self._took_s = self._took_s * self._keep + (took_s if took_s < most else most)
        self._expected_s = self._expected_s * self._keep + expected_s
        self.value = (PRIOR_S + self._took_s) / (PRIOR_S + self._expected_s)

    def fade(self, over_s: float) -> None:
        """Let the samples fade: `over_s` seconds have passed."""
        keep = max(0.0, 1.0 - over_s / FADE_S)
        self._took_s *= keep
        self._expected_s *= keep
        self.value = (PRIOR_S + self._took_s) / (PRIOR_S + self._expected_s)

    def step(self) -> float:
        """The value rounded to a step: the same for equal machines."""
        return float(2.0 ** (round(STEPS * log2(self.value)) / STEPS))

    def __repr__(self) -> str:
        return f"<SpeedRatio {self.value:.3g} from {self._expected_s:.3g} s>"


class PodWatcher(Protocol):
    """Keeps a copy of a pod's cells."""

    def changed(self, pod_state: PodState, /) -> None:
        """The copy is out of date. Called once for each time that it is made a watcher."""


class PodState:
    """One pod's counts, report and blockers."""

    __slots__ = (
        "adapters",
        "blockers",
        "dirty",
        "dispatched",
        "e2e_ewma_s",
        "foreign",
        "head_since",
        "kept",
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
        "pool",
        "position",
        "prefill_tokens",
        "prefill_work",
        "prefilling",
        "promises",
        "queued",
        "ratio",
        "reported_at",
        "requests",
        "running",
        "sample",
        "shown_inflight",
        "shown_work",
        "tokens",
        "ttft_ewma_s",
        "watchers",
    )

    def __init__(self, pod: Pod) -> None:
        self.pool: str | None = None
        """Name of its pool; None once discovery dropped the pod while requests are still open."""
        self.position = -1
        """Its index among the pool's candidates; -1 when it is not one."""
        self.dirty = False
        """Whether it has changed since the pool's last snapshot."""
        self.watchers: list[PodWatcher] = []
        """What copied its cells; empty in a pool whose pods all serve the same models."""
        self.shown_inflight = self.shown_work = 0
        """Requests in flight and prefill work as of the pool's last snapshot; the pool keeps them for its totals."""
        self.requests = self.tokens = self.prefill_tokens = self.prefilling = self.prefill_work = 0
        self.promises: Promises | None = None
        """Of this replica's requests; None before the first one."""
        self.peak = 0
        """Highest number of requests in flight, over all replicas, since the engine's last report."""
        self.head_since = 0.0
        """When the engine began with the prompt at the head of its queue: that prompt's dispatch to an idle pod, or the
        last first token. Meaningless while no prompt waits."""
        self.dispatched = 0
        """Counter: requests this replica ever sent to the pod."""
        self.pod = pod
        self.blockers: set[str] = set()
        self.adopt(pod)
        self.start_over()

    def adopt(self, pod: Pod) -> None:
        """Replace discovery's description of the pod."""
        self.blockers.discard(self.pod.unready)
        if pod.unready:
            self.blockers.add(pod.unready)
        self.pod = pod
        self.limit = NO_LIMIT if pod.max_inflight is None else pod.max_inflight

    def start_over(self) -> None:
        """Reset all but this replica's own open requests: the pod has just (re)appeared."""
        self.other_requests = self.other_tokens = self.other_prefill_tokens = 0
        self.other_prefilling = self.other_prefill_work = 0
        self.queued = self.running = self.foreign = self.kv_capacity_tokens = 0
        self.peak = self.requests
        self.kv_usage = self.ttft_ewma_s = self.e2e_ewma_s = self.reported_at = 0.0
        self.adapters = NO_ADAPTERS
        self.ratio = SpeedRatio()
        """Learned ratio of its pace to the pool's."""
        self.pace_factor = 1.0
        """`ratio`, rounded to a step."""
        self.sample: tuple[float, int, int] | None = None
        """Seconds, work and uncached tokens of this replica's last prefill. The pace is learned from it if the answer
        was a stream."""
        self.blockers = {self.pod.unready} if self.pod.unready else set()
        self.kept: frozenset[str] = frozenset()
        """Why health would block it, if its pool had pods to spare. It is a candidate all the same."""

    def own(self) -> InflightNumbers:
        """This replica's absolute numbers."""
        return _new(
            InflightNumbers,
            (self.requests, self.tokens, self.prefill_tokens, self.dispatched, self.prefilling, self.prefill_work),
        )

    def begin(self, tokens: int, prefill_tokens: int, work: int, now: float) -> None:
        """Count a request of this replica."""
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
        """Count a first token of this replica's requests: the engine computes the next prompt from now on."""
        self.sample = now - self.head_since, work, prefill_tokens
        self.prefilling -= 1
        self.prefill_tokens -= prefill_tokens
        self.prefill_work -= work
        self.head_since = now

    def shift_others(self, old: InflightNumbers, new: InflightNumbers, now: float) -> None:
        """Replace `old` by `new` in the other replicas' sum."""
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

    def promise(self, charge: Charge, request: RequestInfo) -> None:
        """Note what the request of an open charge was promised."""
        if self.promises is None:
            self.promises = Promises()
        charge.promise = Promise(request.slo.tpot_s, weight(request.priority))
        self.promises.add(charge.promise)

    def end(self, charge: Charge, now: float) -> None:
        """Take off all that an open charge still holds."""
        self.requests -= 1
        self.tokens -= charge.tokens
        if charge.work:  # it failed before its first token: no sample for any average
            self.prefilling -= 1
            self.prefill_tokens -= charge.prefill_tokens
            self.prefill_work -= charge.work
        else:
            old, seconds = self.e2e_ewma_s, now - charge.since
            self.e2e_ewma_s = old + E2E_ALPHA * (seconds - old) if old else seconds
        if charge.promise is not None and self.promises is not None:
            self.promises.remove(charge.promise)
            charge.promise = None
        charge.requests = charge.tokens = charge.prefill_tokens = charge.work = 0

    def read(self, report: EngineReport, at: float) -> None:
        """Take an engine's report, read at this time. Fields that it lacks keep their value."""
        if report.queued is not None:
            self.queued = report.queued
        if report.running is not None:
            self.running = report.running
        # The page was made at some time since the last one, so up to `peak` of the requests on it came from gateways.
        self.foreign = max(0, self.queued + self.running - self.peak)
        self.peak = self.requests + self.other_requests
        if report.kv_usage is not None:
            self.kv_usage = report.kv_usage
        if report.kv_capacity_tokens is not None:
            self.kv_capacity_tokens = report.kv_capacity_tokens
        self.adapters = report.adapters or self.adapters
        if self.reported_at:
            self.ratio.fade(at - self.reported_at)
            self.pace_factor = self.ratio.step()
        self.reported_at = at

    def cells(self, pool_pace_s: float) -> Cells:
        """What a snapshot says of the pod. `pool_pace_s` is the pool's `PrefillSpeed.s`."""
        inflight = self.requests + self.other_requests
        tokens = self.tokens + self.other_tokens
        prefilling = self.prefilling + self.other_prefilling
        work = self.prefill_work + self.other_prefill_work
        pace_s = pool_pace_s * self.pace_factor
        load = _new(
            PodLoad,
            (
                self.queued,
                self.running,
                self.kv_usage,
                inflight,
                tokens,
                self.prefill_tokens + self.other_prefill_tokens,
                self.ttft_ewma_s,
                self.reported_at,
                prefilling,
                work,
                self.head_since,
                pace_s,
                self.kv_capacity_tokens,
                self.e2e_ewma_s,
                self.adapters,
                self.foreign,
                () if self.promises is None else self.promises.shown(self.requests, inflight),
            ),
        )
        until, wait = outlook(inflight, tokens, prefilling, work, self.head_since, pace_s)
        # `token_load` and `queue_length` without calls and look-ups: 0.05 us against 0.2 each. A test holds them equal.
        queue = float(self.queued if self.queued > prefilling else prefilling)
        return load, tokens + DECODE_TOKENS_EACH * (inflight + self.foreign), until, wait, queue

    def load(self, pool_pace_s: float) -> PodLoad:
        """The load as a policy sees it."""
        return self.cells(pool_pace_s)[0]

    def __repr__(self) -> str:
        blocked = f" blocked by {', '.join(sorted(self.blockers))}" if self.blockers else ""
        counts = f"{self.requests}+{self.other_requests} in flight"
        return f"<PodState {self.pod.id} in {self.pool or 'no pool'}: {counts}{blocked}>"
