"""A policy in the shadow of the one that decides: it picks for the same requests and snapshots, later, one at a time.

The data plane puts a bounded sample of requests aside; other requests pay nothing. The shadow picks for them in slices
of the event loop, one pick each. A thread would not help: a pick holds the interpreter lock all the same, and the
thread's wake-ups delay the loop. Failures of a shadow are counted, and too many turn it off; no request is affected.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from typing import Final, NamedTuple

from router.trials.durations import Durations
from router.trials.figures import ShadowFigures, SideFigures
from schedulers.guard import Failure, fault, raised, slow
from schedulers.protocols import Scheduler
from schedulers.ttft import likely_cached, prefill_work, start_in
from schedulers.types import PREFIX_BLOCK_TOKENS, Decision, LoadSnapshot, PodId, Rejection, RequestInfo

PER_S: Final = 100.0
"""Most requests put aside per second."""

BACKLOG: Final = 32
"""Most requests that wait; each keeps a snapshot alive, of up to 1,000 pods."""

MOST_FAILURES: Final = 5
"""Failures in a row that turn a shadow off."""

SLOW_S: Final = 0.05
"""Seconds after which a single pick turns the shadow off, because every request waits meanwhile."""

PODS_SHARED: Final = 256
"""Number of pods, the busiest, whose picks are part of the shared figures."""

SLICE_S: Final = 0.002
"""Seconds between two slices, in which requests are served."""

_log = logging.getLogger("turnout.trials")

Later = Callable[[float, Callable[[], None]], object]
"""(seconds, function): calls the function after that time; the event loop's `call_later`."""


class ShadowSample(NamedTuple):
    """A request, its snapshot, and the answer of the policy that decides."""

    request: RequestInfo
    snapshot: LoadSnapshot
    answer: Decision | Rejection
    took_s: float
    """Duration of the pick."""


class ShadowSide:
    """Counts of the choices of one of the two policies."""

    __slots__ = ("_took", "hits", "picks", "pods", "rejections", "tokens", "ttft_s", "wait_s")

    def __init__(self) -> None:
        """All zero."""
        self.picks = self.rejections = 0
        self.tokens = self.wait_s = self.ttft_s = self.hits = 0.0
        self.pods: dict[str, int] = {}
        self._took = Durations()

    def count(self, answer: Decision | Rejection, took_s: float) -> None:
        """Count an answer, whatever the other side answered."""
        self._took.observe(took_s)
        if isinstance(answer, Rejection):
            self.rejections += 1

    def chose(self, pod: PodId, request: RequestInfo, snapshot: LoadSnapshot) -> None:
        """Count a pod, where the other side chose one too, with its load in the snapshot."""
        at = snapshot.position_of()[pod]
        self.picks += 1
        self.tokens += snapshot.columns.tokens[at]
        self.wait_s += snapshot.columns.wait[at]
        held = request.prefix_hits.get(pod, 0) * PREFIX_BLOCK_TOKENS
        self.ttft_s += _expected_s(request, snapshot, at, held)
        self.hits += min(request.prompt_tokens, held)
        self.pods[pod] = self.pods.get(pod, 0) + 1

    def figures(self) -> SideFigures:
        """The counts as they are now."""
        busiest = sorted(self.pods.items(), key=lambda each: each[1], reverse=True)[:PODS_SHARED]
        took = dict(self._took.counts)
        sums = self.tokens, self.wait_s, self.hits
        return SideFigures(self.picks, self.rejections, *sums, dict(busiest), took, self.ttft_s)


def _expected_s(request: RequestInfo, snapshot: LoadSnapshot, at: int, held: int) -> float:
    """Seconds until the request's first token from the pod at that position, of which the index knows `held` tokens:
    what the load view expects at dispatch, without a wait for KV blocks."""
    columns, cached = snapshot.columns, likely_cached(held, request.prompt_tokens)
    now = max(request.arrived_at, snapshot.taken_at)
    work = prefill_work(request.prompt_tokens - cached, cached)
    return start_in(columns.until[at], columns.wait[at], now) + work * columns.pace[at]


def _ignore(shadow: Shadow, wants: bool) -> None:
    """No one follows what the shadow wants."""


class Shadow:
    """A shadow policy on this replica."""

    __slots__ = (
        "_agreed",
        "_backlog",
        "_clock",
        "_compared",
        "_dropped",
        "_due",
        "_every_s",
        "_failed",
        "_failures",
        "_later",
        "_live",
        "_on_wants",
        "_queries",
        "_sampled",
        "_shadow",
        "off",
        "pool",
        "scheduler",
        "wants",
    )

    def __init__(
        self,
        pool: str,
        scheduler: Scheduler,
        later: Later,
        clock: Callable[[], float],
        per_s: float = PER_S,
        on_wants: Callable[[Shadow, bool], None] = _ignore,
    ) -> None:
        """`clock` times picks, in seconds; `on_wants` is called when `wants` changes."""
        self.pool = pool
        self.scheduler = scheduler
        self.wants = True
        """Whether the next request is to be put aside."""
        self.off = ""
        """Why it was turned off; empty while it runs."""
        self._on_wants = on_wants
        self._later = later
        self._clock = clock
        self._every_s = 1.0 / per_s
        self._backlog: deque[ShadowSample] = deque()
        self._due = False
        self._sampled = self._dropped = self._compared = self._agreed = self._failures = self._failed = 0
        self._queries = 0.0
        self._live, self._shadow = ShadowSide(), ShadowSide()

    def sample(self, sample: ShadowSample) -> None:
        """Put a request aside, if one is wanted; drop it if too many wait."""
        if not self.wants:
            return
        self._want(False)
        self._later(self._every_s, self._want_again)
        self._sampled += 1
        if len(self._backlog) >= BACKLOG:
            self._dropped += 1
            return
        self._backlog.append(sample)
        if not self._due:
            self._due = True
            self._later(SLICE_S, self._slice)

    def stop(self, why: str) -> None:
        """Turn the shadow off and drop the requests that wait."""
        self.off = why
        self._want(False)
        self._backlog.clear()

    def figures(self) -> ShadowFigures:
        """The counts as they are now."""
        counts = self._sampled, self._dropped, self._compared, self._agreed, self._failures
        return ShadowFigures(*counts, self._queries, self._live.figures(), self._shadow.figures())

    def _want(self, wanted: bool) -> None:
        self.wants = wanted
        self._on_wants(self, wanted)

    def _want_again(self) -> None:
        if not self.off:
            self._want(True)

    def _slice(self) -> None:
        """Pick for one of the requests that wait."""
        self._due = False
        if not self._backlog:
            return
        self._compare(self._backlog.popleft())
        if self._backlog:
            self._due = True
            self._later(SLICE_S, self._slice)

    def _compare(self, sample: ShadowSample) -> None:
        asked = self._asked(sample)
        if asked is None:
            return
        answer, took_s = asked
        self._failed = 0
        self._live.count(sample.answer, sample.took_s)
        self._shadow.count(answer, took_s)
        if isinstance(answer, Rejection) or isinstance(sample.answer, Rejection):
            return
        self._compared += 1
        self._agreed += answer.pod == sample.answer.pod
        self._queries += sample.request.prompt_tokens
        self._live.chose(sample.answer.pod, sample.request, sample.snapshot)
        self._shadow.chose(answer.pod, sample.request, sample.snapshot)

    def _asked(self, sample: ShadowSample) -> tuple[Decision | Rejection, float] | None:
        """The shadow's answer and the seconds it took; None where it failed."""
        began = self._clock()
        try:
            answer = self.scheduler.pick(sample.request, sample.snapshot)
            failure = fault(answer, sample.request, sample.snapshot)
        except Exception as error:  # noqa: BLE001  a policy may be foreign code
            failure = raised(error)
        took_s = self._clock() - began
        if failure is None and took_s < SLOW_S:
            return answer, took_s
        self._fails(failure or slow(took_s))
        return None

    def _fails(self, failure: Failure) -> None:
        """Turn the shadow off at once for a slow or stuck pick, else after `MOST_FAILURES` in a row."""
        self._failures += 1
        self._failed += 1
        if self._failed >= MOST_FAILURES or failure.reason in ("stuck", "slow"):
            self.stop(f"turned off after {self._failures} failures, the last: it {failure.words}")
            _log.error("pool %s: shadow %s is %s", self.pool, self.scheduler.name, self.off)

    def __repr__(self) -> str:
        return f"<Shadow {self.scheduler.name} in {self.pool}: {self._sampled} seen{', off' if self.off else ''}>"
