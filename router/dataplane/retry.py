"""Stage 7: what to do when an attempt fails. Pure: a table, a rule and a budget; the time comes as an argument."""

from __future__ import annotations

from enum import Enum
from typing import Final, NamedTuple

from router.errors import (
    BadAnswer,
    ConnectFailed,
    ConnectTimeout,
    CutMidAnswer,
    DrainTimeout,
    FirstByteTimeout,
    IdleTimeout,
    ModelRefused,
    PodFailure,
    PodGone,
    PodRefused,
    ResetBeforeAnswer,
    StaleConnection,
    StreamLost,
    TlsFailed,
    TotalTimeout,
)
from router.settings import Retries
from statesync.engines.health import Outcome


class RetryDecision(Enum):
    """What the gateway does after a failed attempt."""

    ANOTHER_POD = "another_pod"
    ANOTHER_POOL = "another_pool"
    """The attempts allowed in this pool are used up; a fall-back is tried."""
    SAME_POD = "same_pod"
    GIVE_UP = "give_up"


class RetryRule(NamedTuple):
    """What follows from a failure."""

    decision: RetryDecision
    """What to do as long as nothing was sent to the client."""
    outcome: Outcome | None
    """What the health tracker gets; None: nothing."""


RULES: dict[type[PodFailure], RetryRule] = {
    ConnectFailed: RetryRule(RetryDecision.ANOTHER_POD, Outcome.FAILURE),
    ConnectTimeout: RetryRule(RetryDecision.ANOTHER_POD, Outcome.FAILURE),
    TlsFailed: RetryRule(RetryDecision.ANOTHER_POD, Outcome.FAILURE),
    StaleConnection: RetryRule(RetryDecision.SAME_POD, None),
    ResetBeforeAnswer: RetryRule(RetryDecision.ANOTHER_POD, Outcome.FAILURE),
    BadAnswer: RetryRule(RetryDecision.ANOTHER_POD, Outcome.FAILURE),
    CutMidAnswer: RetryRule(RetryDecision.ANOTHER_POD, Outcome.FAILURE),
    PodRefused: RetryRule(RetryDecision.ANOTHER_POD, None),
    ModelRefused: RetryRule(RetryDecision.ANOTHER_POD, None),
    PodGone: RetryRule(RetryDecision.ANOTHER_POD, None),
    # A silent pod may be computing the answer: a second pod would repeat the work and take as long. It is no mark
    # against the pod either: whether it is well is for its probes to say, and long answers are healthy.
    FirstByteTimeout: RetryRule(RetryDecision.GIVE_UP, None),
    IdleTimeout: RetryRule(RetryDecision.GIVE_UP, None),
    TotalTimeout: RetryRule(RetryDecision.GIVE_UP, None),
    DrainTimeout: RetryRule(RetryDecision.GIVE_UP, None),
    StreamLost: RetryRule(RetryDecision.GIVE_UP, None),
}

STATUSES: dict[int, Outcome] = {
    429: Outcome.BUSY,  # load, not failure
    502: Outcome.FAILURE,
    503: Outcome.BUSY,  # a dead engine fails its probe; a full one answers this
    504: Outcome.FAILURE,
}
"""Statuses after which another pod may succeed, and what they mean for the pod's health. A 500 may be caused by the
request, so it is passed on and does not count."""

IDEMPOTENT: Final = frozenset((b"GET", b"HEAD", b"OPTIONS", b"PUT", b"DELETE"))
"""Methods of services that may be sent again after a failure in the middle."""

UNSENT: Final[frozenset[type[PodFailure]]] = frozenset((ConnectFailed, ConnectTimeout, TlsFailed, PodRefused))
"""Failures after which the pod has done nothing of the request."""


def decide(failure: PodFailure, *, begun: bool, attempts: int, stale_tries: int, limits: Retries) -> RetryDecision:
    """What to do after `failure`, without regard to the budget. `begun`: the client has part of the answer; `attempts`:
    how many were made in the present pool; `stale_tries`: see `Exchange`."""
    decision = RULES[type(failure)].decision
    if begun:
        return RetryDecision.GIVE_UP
    if decision is RetryDecision.SAME_POD:
        return RetryDecision.SAME_POD if stale_tries == 0 else _within(attempts, limits)
    return _within(attempts, limits) if decision is RetryDecision.ANOTHER_POD else decision


def _within(attempts: int, limits: Retries) -> RetryDecision:
    return RetryDecision.ANOTHER_POD if attempts <= limits.attempts else RetryDecision.ANOTHER_POOL


class RetryBudget:
    """Retries as a share of recent requests, plus a few a second (Finagle's and linkerd's retry budget).

    Each request adds `budget_ratio`, each second adds `budget_min`, each retry takes 1; additions expire after about
    10 s.
    """

    WINDOW_S = 10.0

    def __init__(self, limits: Retries, now: float) -> None:
        self._ratio = limits.budget_ratio
        self._per_s = limits.budget_min
        self._saved = float(limits.budget_min)
        self.requests = 0
        """Requests since the last retry. The gateway counts them; `withdraw` adds them to the budget."""
        self._at = now

    def withdraw(self, now: float) -> bool:
        """Whether one more retry is within the budget; if so, takes it. `now` is in monotonic seconds."""
        elapsed = max(0.0, now - self._at)
        self._at = now
        kept = self._saved * max(0.0, 1 - elapsed / self.WINDOW_S)
        recent_s = min(elapsed, self.WINDOW_S)
        recent = self.requests * recent_s / elapsed if elapsed else self.requests
        self._saved = kept + recent * self._ratio + recent_s * self._per_s
        self.requests = 0
        if self._saved < 1:
            return False
        self._saved -= 1
        return True
