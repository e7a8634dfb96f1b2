"""What is known of one pod: this replica's counts, the sum of the other replicas' counts, the engine's report.

Knows no request, no pool and no clock. `view.py` decides what changes; `pool_state.py` keeps the columns of the pod's
pool in step with it.
"""

from __future__ import annotations

from typing import Final, Protocol

from schedulers.slo import weight
from schedulers.ttft import CHUNK_TOKENS, PRIOR, Costs, outlook
from schedulers.types import DECODE_TOKENS_EACH, NO_ADAPTERS, Pod, PodId, PodLoad, RequestInfo
from statesync.load.cost_model import Parts, PodSpeed
from statesync.load.learned_limit import NO_LIMIT, STALE_S, LearnedLimit
from statesync.load.promises import Promise, Promises
from statesync.types import LEARNED, EngineReport, InflightNumbers

# A named tuple's own constructor costs 0.59 us for a PodLoad, this 0.26 us: it is built several times a request. The
# values stand in the order of the fields; a test compares each by name.
_new: Final = tuple.__new__

Cells = tuple[PodLoad, float, float, float, float]
"""A pod's load, and its cells of the columns `tokens`, `until`, `wait` and `queue`."""

E2E_ALPHA: Final = 0.1
"""Weight of the newest duration in the moving average of a request's time on the pod; higher follows changes sooner."""

ENOUGH_S: Final = 0.25
"""Seconds of prefill, by the prior, that make a sample of its costs: shorter ones are added up. Prompts that one step
completes come back at once, so that only their sum says anything, and on short ones most of the time is chance."""

LEAST_S: Final = 0.025
"""Seconds that a sample took at least: of the prompts of one step all but the first take none."""

SHARE_ALPHA: Final = 0.2
"""Weight of the newest report in the average of `PodLoad.kv_share`."""


class Charge:
    """One request's part of a pod's load: taken by `LoadView.reserve`, given back by `prefill_done` and `release`.

    It keeps the amounts, so that exactly the amount added is subtracted, however the estimates change.
    """

    __slots__ = ("cached", "expected_s", "pod", "prefill_tokens", "promise", "requests", "since", "tokens", "work")

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
        self.expected_s = 0.0
        """Expected seconds from then to the first token; 0.0 where nothing is expected."""
        self.promise: Promise | None = None
        """What the request was promised, of what the pod's load shows."""

    def __repr__(self) -> str:
        state = "open" if self.requests else "released"
        return f"<Charge {state} on {self.pod}: {self.tokens} tokens, {self.prefill_tokens} to prefill>"


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
        "expected_ewma_s",
        "foreign",
        "head_since",
        "kept",
        "kv_capacity_tokens",
        "kv_share",
        "kv_usage",
        "learned",
        "limit",
        "other_prefill_tokens",
        "other_prefill_work",
        "other_prefilling",
        "other_requests",
        "other_tokens",
        "parts",
        "peak",
        "pod",
        "pool",
        "position",
        "prefill_tokens",
        "prefill_work",
        "prefilling",
        "promises",
        "queued",
        "reported_at",
        "requests",
        "running",
        "sample",
        "shown_inflight",
        "shown_limit",
        "shown_work",
        "speed",
        "tokens",
        "took_s",
        "ttft_error",
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
        self.shown_inflight = self.shown_work = self.shown_limit = 0
        """Requests in flight, prefill work and limit (0: it is blocked), as last counted into the pool's totals."""
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
        self.learned = LearnedLimit() if pod.max_inflight == LEARNED else None
        self.limit = pod.max_inflight or NO_LIMIT

    def start_over(self) -> None:
        """Reset all but this replica's own open requests: the pod has just (re)appeared."""
        self.other_requests = self.other_tokens = self.other_prefill_tokens = 0
        self.other_prefilling = self.other_prefill_work = 0
        self.queued = self.running = self.foreign = self.kv_capacity_tokens = 0
        self.peak = self.requests
        self.kv_usage = self.ttft_ewma_s = self.e2e_ewma_s = self.reported_at = 0.0
        self.expected_ewma_s = self.ttft_error = 0.0
        """Of the times to first token in `ttft_ewma_s`: what was expected, and by how much of the found time it was
        wrong; moving averages."""
        self.adapters = NO_ADAPTERS
        self.kv_share = 1.0
        self.speed = PodSpeed()
        self.took_s = 0.0
        self.parts: Parts = (0.0, 0.0, 0.0, 0.0)  # no constant: mypyc loses module-level tuples of floats
        """Prefills that are added up until they are a sample: their seconds, and what the prior says of each part."""
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

    def collect(self, decoding: int, tokens: float) -> bool:
        """Add the last prefill to the sample: `decoding` requests with `tokens` of context were decoded meanwhile. True
        if the sample is large enough."""
        if self.sample is None:
            return False
        seconds, work, uncached = self.sample
        self.sample = None
        steps = 0.5 + uncached / CHUNK_TOKENS
        prefill, step, requests, context = self.parts
        prefill += work * PRIOR.token_s
        step += steps * PRIOR.step_s
        requests += steps * decoding * PRIOR.decoding_s
        context += steps * tokens * PRIOR.held_s
        self.took_s += seconds
        self.parts = prefill, step, requests, context
        return prefill + step + requests + context >= ENOUGH_S and self.took_s >= LEAST_S

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
        if self.learned is not None and now - self.reported_at > STALE_S:
            self.limit = NO_LIMIT

    def read(self, report: EngineReport, at: float) -> None:
        """Take an engine's report, read at this time. Fields that it lacks keep their value."""
        if report.queued is not None:
            self.queued = report.queued
        if report.running is not None:
            self.running = report.running
        # The page was made at some time since the last one, so up to `peak` of the requests on it came from gateways.
        self.foreign = max(0, self.queued + self.running - self.peak)
        self.peak = self.requests + self.other_requests
        if self.learned is not None and report.running is not None and report.queued is not None:
            self.learned.read(report.running, report.queued, self.peak, self.foreign)
            self.limit = self.learned.value
        if report.kv_usage is not None:
            self.kv_usage = report.kv_usage
        if report.kv_capacity_tokens is not None:
            self.kv_capacity_tokens = report.kv_capacity_tokens
        self.adapters = report.adapters or self.adapters
        self._learn_share()
        if self.reported_at:
            self.speed.fade(at - self.reported_at)
        self.reported_at = at

    def _learn_share(self) -> None:
        """Learn from a report how many KV tokens the requests on the pod hold for a token that they have."""
        tokens, size = self.tokens + self.other_tokens, self.running + self.queued
        if self.running and tokens and self.kv_capacity_tokens:
            share = self.kv_usage * self.kv_capacity_tokens * size / (tokens * self.running)
            self.kv_share += SHARE_ALPHA * (min(share, 1.0) - self.kv_share)

    def cells(self, costs: Costs) -> Cells:
        """What a snapshot says of the pod, by its pool's costs."""
        inflight = self.requests + self.other_requests
        tokens = self.tokens + self.other_tokens
        prefilling = self.prefilling + self.other_prefilling
        work = self.prefill_work + self.other_prefill_work
        factor = self.speed.factor
        token_s, least_s, decoding_s, held_s = costs
        decoding = inflight - prefilling
        step_s = (least_s + decoding_s * (decoding if decoding > 0 else 0) + held_s * tokens * self.kv_share) * factor
        pace_s = token_s * factor + step_s / CHUNK_TOKENS
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
                step_s,
                self.kv_share,
            ),
        )
        until, wait = outlook(prefilling, work, self.head_since, pace_s, step_s)
        # `token_load` and `queue_length` without calls and look-ups: 0.05 us against 0.2 each. A test holds them equal.
        queue = float(self.queued if self.queued > prefilling else prefilling)
        return load, tokens + DECODE_TOKENS_EACH * (inflight + self.foreign), until, wait, queue

    def load(self, costs: Costs = PRIOR) -> PodLoad:
        """The load as a policy sees it."""
        return self.cells(costs)[0]

    def __repr__(self) -> str:
        blocked = f" blocked by {', '.join(sorted(self.blockers))}" if self.blockers else ""
        counts = f"{self.requests}+{self.other_requests} in flight"
        return f"<PodState {self.pod.id} in {self.pool or 'no pool'}: {counts}{blocked}>"
