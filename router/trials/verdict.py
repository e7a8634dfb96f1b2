"""Whether a canary is within its guard. Pure: the figures of all replicas in, a verdict with its figures out.

Each guard is judged by an e-process (`evidence.py`), so it may be looked at at any time: a candidate whose true
figure is at its limit or better is ever taken back with a probability of at most what `confidence` leaves. The guards
share that, and so do the shares of traffic that one candidate goes through: stage k (from 0) gets 1 / ((k + 1) (k +
2)) of it, which sums to all. The promise of `within` is as strong: the figure is below the limit, not merely not
found above it.

Sessions are drawn and their requests are alike, so requests count by the design effect of their arm (`clusters.py`),
and nothing is judged before each arm has had some sessions.

Both arms share pods, so a candidate that overloads a pod harms the other arm too, and the comparison shows only a
part of the harm; `fleet.py` looks at the pool as a whole."""

from __future__ import annotations

import math
from typing import Final, NamedTuple

from router.trials.clusters import sessions
from router.trials.evidence import Interval, Tally, share
from router.trials.figures import ArmFigures, TrialFigures
from router.trials.questions import GuardTest, questions
from statesync.store.policy_record import Canary

MIN_SESSIONS: Final = 10
EARLY: Final = 20
"""Sessions of each arm, and requests if its guard does not ask for fewer, before anything is judged. `min_requests` are
needed for a verdict other than `broken`: evidence of harm is as certain before."""

POLICY_FAILURES: Final = 5
"""A candidate with this number of policy failures, in more than `POLICY_FAILURE_SHARE` of its requests, is taken back
at once. A sound policy never fails, so no error by chance has to be allowed for, and `min_requests` does not apply."""

POLICY_FAILURE_SHARE: Final = 0.001

_SHARES: Final = ("error_rate", "policy_failures")
"""Guards whose figures are shares of requests; the others' are ratios."""

MOST_MORE: Final = 1000
"""If this many times the requests would not decide, no number is named."""


class Comparison(NamedTuple):
    """The result of one guard."""

    guard: str
    """The name of the field of `CanaryGuard`, or `policy_failures`."""
    found: Interval
    limit: float
    broken: bool
    """The whole interval is over the limit."""
    within: bool
    """The whole interval is below it."""
    more: int = 0
    """About how many more requests would decide, if the figures stayed as they are; 0 for no such number."""

    def describe(self) -> str:
        """`ttft_p95_ratio 3.1 (2.7 to 3.6) over 1.5`."""
        where = "over" if self.broken else ("below" if self.within else "against")
        return f"{self.guard} {self.figure()} {where} {self.shown(self.limit)}"

    def figure(self) -> str:
        """`3.1 (2.7 to 3.6)`, or of shares `0.0 % (-6.9 % to 21 %)`."""
        value, low, high = self.found
        bounds = f"{self.shown(low)} or more" if math.isinf(high) else f"{self.shown(low)} to {self.shown(high)}"
        return f"{self.shown(value)} ({bounds})"

    def shown(self, value: float) -> str:
        """A figure of this guard: shares in percent."""
        return f"{100 * value:.2g} %" if self.guard in _SHARES else f"{value:.3g}"


class Verdict(NamedTuple):
    """The state of a canary and its reason."""

    state: str
    """`waiting` for more requests, `undecided`, `within` its guard, or `broken`."""
    reason: str
    comparisons: tuple[Comparison, ...] = ()
    """Those that could be made."""


def spent(canary: Canary) -> float:
    """The probability of a false alarm that this stage of the candidate may spend, on all its guards together."""
    return (1.0 - canary.guard.confidence) / ((canary.stage + 1) * (canary.stage + 2))


def alarm(canary: Canary, figures: TrialFigures) -> Verdict | None:
    """The verdict where a guard is broken; None otherwise. Cheap enough for every second."""
    failing = _policy_failures(figures.canary)
    if failing is not None and failing.broken:
        return _broken([failing], [failing], figures)
    if missing(figures, _early(canary)):
        return None
    tests = list(questions(canary.guard, figures))
    odds = needed(canary, len(tests))
    judged = (test for test in tests if test.size >= _early(canary))
    return judge(canary, figures) if any(test.against(1.0, True) >= odds for test in judged) else None


def judge(canary: Canary, figures: TrialFigures) -> Verdict:
    """The verdict on these figures, with every comparison that can be made."""
    failing = _policy_failures(figures.canary)
    tests = list(questions(canary.guard, figures))
    odds = needed(canary, len(tests))
    requests = figures.baseline.placed + figures.canary.placed
    early, enough = _early(canary), max(1, canary.guard.min_requests)
    lacking = missing(figures, enough)
    judged = tests if not missing(figures, early) else []
    found = [_compared(test, odds, requests) for test in judged if test.size >= early]
    found += [failing] if failing is not None else []
    if broken := [each for each in found if each.broken]:
        return _broken(broken, found, figures)
    if lacking:
        return Verdict("waiting", lacking, tuple(found))
    for test in tests:
        if not test.optional and test.size < enough:
            few = f"needs {enough - int(test.size)} more answers on its smaller arm"
            return Verdict("waiting", f"{test.guard} {few}", tuple(found))
    return _decided(found, {test.guard for test in tests if test.optional})


def _early(canary: Canary) -> int:
    return min(EARLY, max(1, canary.guard.min_requests))


def missing(figures: TrialFigures, requests: int) -> str:
    """What has to come before there is a verdict, if each arm needs this many requests; empty if nothing."""
    arms = figures.baseline, figures.canary
    if (fewest := requests - min(arm.placed for arm in arms)) > 0:
        return f"needs {fewest} more requests on its smaller arm"
    # Figures of older replicas are not counted by cluster.
    seen = [sessions(arm.placed_by) for arm in arms if arm.placed_by]
    if seen and min(seen) < MIN_SESSIONS:
        return f"needs {MIN_SESSIONS - min(seen)} more sessions on its smaller arm"
    return ""


def needed(canary: Canary, tests: int) -> float:
    """The log evidence at which one of this number of tests decides."""
    return math.log(max(1, tests) / spent(canary))


def _compared(test: GuardTest, odds: float, requests: int) -> Comparison:
    broken, within = (test.against(1.0, above) >= odds for above in (True, False))
    more = 0 if broken or within else _more(test, odds, requests)
    return Comparison(test.guard, test.interval(odds), test.limit, broken, within, more)


def _more(test: GuardTest, odds: float, requests: int) -> int:
    above, low, high = test.value > test.limit, 1.0, float(MOST_MORE)
    if test.against(high, above) < odds:
        return 0
    while high / low > 1.1:
        middle = math.sqrt(low * high)
        low, high = (low, middle) if test.against(middle, above) >= odds else (middle, high)
    return rounded((high - 1.0) * requests)


def rounded(number: float) -> int:
    """To two digits, so that an estimate does not look like a count."""
    return int(float(f"{number:.2g}")) or 1


def _decided(found: list[Comparison], optional: set[str]) -> Verdict:
    open_ = [
        each for each in found if not each.within and each.guard != "policy_failures" and each.guard not in optional
    ]
    if not open_:
        return Verdict("within", "within its guard", tuple(found))
    slowest = max(open_, key=lambda each: each.more or math.inf)
    more = f"about {slowest.more} more requests" if slowest.more else "too close to its limit to be decided"
    return Verdict("undecided", f"undecided, {more}: {'; '.join(each.describe() for each in open_)}", tuple(found))


def _broken(broken: list[Comparison], found: list[Comparison], figures: TrialFigures) -> Verdict:
    requests = figures.baseline.placed + figures.canary.placed
    return Verdict("broken", f"broken: {broken[0].describe()} after {requests} requests", tuple(found))


def _policy_failures(candidate: ArmFigures) -> Comparison | None:
    if not candidate.policy_failures:
        return None
    tally = Tally(min(candidate.policy_failures, candidate.placed), max(1, candidate.placed))
    found = share(tally, math.log(1000.0))
    broken = candidate.policy_failures >= POLICY_FAILURES and found.low > POLICY_FAILURE_SHARE
    return Comparison("policy_failures", found, POLICY_FAILURE_SHARE, broken, not broken)
