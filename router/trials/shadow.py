"""A policy in the shadow of the one that decides: shown the same requests and snapshots, later, one at a time.

The hot path puts a bounded sample aside, and between two of them knows nothing of a shadow; slices of the event loop,
one pick each, look at it when other work is done. A thread would be no quieter: a pick holds the interpreter all the
same, and the thread's wake-ups cost the loop its turn. What a shadow does wrong is counted, and too much of it turns
the shadow off; no request ever hears of it.
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
from schedulers.types import PREFIX_BLOCK_TOKENS, Decision, LoadSnapshot, PodId, Rejection, RequestInfo

PER_S: Final = 100.0
"""Requests put aside a second, at most."""

BACKLOG: Final = 32
"""Requests that may wait to be looked at; a snapshot of 1,000 pods is kept alive by each."""

MOST_FAILURES: Final = 5
"""Failures in a row that turn a shadow off."""

SLOW_S: Final = 0.05
"""A pick that takes longer holds up every request: one is enough."""

PODS_TOLD: Final = 256
"""Of so many pods, the busiest, the picks are counted in what other replicas read."""

SLICE_S: Final = 0.002
"""Between two slices: requests that came in the meantime go first."""

_log = logging.getLogger("turnout.trials")

Later = Callable[[float, Callable[[], None]], object]
"""Runs something in so many seconds; the event loop's `call_later`."""


class ShadowSample(NamedTuple):
    """A request that was decided."""

    request: RequestInfo
    snapshot: LoadSnapshot
    answer: Decision | Rejection
    took_s: float
    """The pick."""


class ShadowSide:
    """Counts of what one of the two chose."""

    __slots__ = ("_took", "hits", "picks", "pods", "rejections", "tokens", "wait_s")

    def __init__(self) -> None:
        """All zero."""
        self.picks = self.rejections = 0
        self.tokens = self.wait_s = self.hits = 0.0
        self.pods: dict[str, int] = {}
        self._took = Durations()

    def count(self, answer: Decision | Rejection, took_s: float) -> None:
        """An answer, whatever the other side's was."""
        self._took.observe(took_s)
        if isinstance(answer, Rejection):
            self.rejections += 1

    def chose(self, pod: PodId, request: RequestInfo, snapshot: LoadSnapshot) -> None:
        """A pod, where the other side chose one too: what the snapshot says of it."""
        at = snapshot.position_of()[pod]
        self.picks += 1
        self.tokens += snapshot.token_column()[at]
        self.wait_s += snapshot.wait_column()[at]
        self.hits += min(request.prompt_tokens, request.prefix_hits.get(pod, 0) * PREFIX_BLOCK_TOKENS)
        self.pods[pod] = self.pods.get(pod, 0) + 1

    def figures(self) -> SideFigures:
        """The counts as they are now."""
        busiest = sorted(self.pods.items(), key=lambda each: each[1], reverse=True)[:PODS_TOLD]
        took = dict(self._took.counts)
        return SideFigures(self.picks, self.rejections, self.tokens, self.wait_s, self.hits, dict(busiest), took)


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
        """Put a request aside, if it is wanted; only counted where too many wait."""
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
        """Look no longer, and forget what waits."""
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
        """One of those that wait."""
        self._due = False
        if not self._backlog:
            return
        self._look(self._backlog.popleft())
        if self._backlog:
            self._due = True
            self._later(SLICE_S, self._slice)

    def _look(self, sample: ShadowSample) -> None:
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
        except Exception as error:  # noqa: BLE001  a policy may be anybody's code
            failure = raised(error)
        took_s = self._clock() - began
        if failure is None and took_s < SLOW_S:
            return answer, took_s
        self._fails(failure or slow(took_s))
        return None

    def _fails(self, failure: Failure) -> None:
        """One that held the loop up is not given another chance to; others are, within reason."""
        self._failures += 1
        self._failed += 1
        if self._failed >= MOST_FAILURES or failure.reason in ("stuck", "slow"):
            self.stop(f"turned off after {self._failures} failures, the last: it {failure.words}")
            _log.error("pool %s: shadow %s is %s", self.pool, self.scheduler.name, self.off)

    def __repr__(self) -> str:
        return f"<Shadow {self.scheduler.name} in {self.pool}: {self._sampled} seen{', off' if self.off else ''}>"
