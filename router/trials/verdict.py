"""Whether a canary is within its guard. Pure: the figures of all replicas in, a verdict with its figures out.

A guard is evaluated many times while the trial runs, and each look may find harm by chance. So looks are spaced and
each spends a part of the allowed error: one whenever the smaller arm has grown by a fifth, the k-th (from 0) with the
share 1 / ((k + 1) (k + 2)) of what `confidence` leaves, which sums to all of it (alpha spending, K. K. G. Lan and D. L.
DeMets, Biometrika 70 (1983), by a union bound, which needs no assumption on how looks depend on each other). The two
guards get half each. A look of another replica uses almost the same figures and spends nothing more.

Both arms share pods, so a candidate that overloads a pod harms the other arm too, and the comparison shows only a part
of the harm. A candidate that is better only because it leaves the slow pods to the other arm would not be better alone.
The draw is by session, and requests of a session are alike: intervals that treat them as independent are somewhat too
narrow. The limits, well above zero, allow for that.
"""

from __future__ import annotations

import math
from typing import Final, NamedTuple

from router.trials.durations import Counts, added, quantile, total
from router.trials.figures import ArmFigures
from router.trials.intervals import Interval, difference, duration, exact_share, ratio
from statesync.store.policy_record import CanaryGuard

LOOK_GROWTH: Final = 1.2
"""The next look is due when the smaller arm has this many times the requests."""

POLICY_FAILURES: Final = 5
"""A candidate with this number of policy failures, in more than `POLICY_FAILURE_SHARE` of its requests, is taken back
at once. A sound policy never fails, so no error by chance has to be allowed for, and `min_requests` does not apply."""

POLICY_FAILURE_SHARE: Final = 0.001

P95: Final = 0.95


class Comparison(NamedTuple):
    """The result of one guard."""

    guard: str
    """The name of the field of `CanaryGuard`, or `policy_failures`."""
    found: Interval
    limit: float
    """0.0 where the guard is turned off."""

    @property
    def broken(self) -> bool:
        """Whether the whole interval is over the limit."""
        return bool(self.limit) and self.found.low > self.limit

    def describe(self, requests: int) -> str:
        """`ttft_p95_ratio 3.1 (2.7 to 3.6) over 1.5 after 812 requests`."""
        value, low, high = self.found
        bounds = f"{low:.3g} or more" if math.isinf(high) else f"{low:.3g} to {high:.3g}"
        return f"{self.guard} {value:.3g} ({bounds}) over {self.limit:g} after {requests} requests"


class Verdict(NamedTuple):
    """The state of a canary and its reason."""

    state: str
    """`waiting` for more requests, `within` its guard, or `broken`."""
    reason: str
    comparisons: tuple[Comparison, ...]
    """Those that could be made."""

    @property
    def failing(self) -> bool:
        """Whether the policy itself fails too often, which ends the trial without a look."""
        return any(each.guard == "policy_failures" and each.broken for each in self.comparisons)


def judge(guard: CanaryGuard, baseline: ArmFigures, canary: ArmFigures, look: int) -> Verdict:
    """The verdict at look number `look` (see `look_at`); -1 is before the first."""
    requests = baseline.placed + canary.placed
    failing = _policy_failures(canary)
    if failing is not None and failing.broken:
        return Verdict("broken", f"broken: {failing.describe(requests)}", (failing,))
    alpha = allowed(guard.confidence, max(0, look)) / 2
    made = [_error_rate(guard, baseline, canary, alpha), _ttft(guard, baseline, canary, alpha), failing]
    found = tuple(each for each in made if each is not None)
    if look < 0:
        missing = max(1, guard.min_requests - min(baseline.placed, canary.placed))
        return Verdict("waiting", f"needs {missing} more requests on its smaller arm", found)
    for each in found:
        if each.broken:
            return Verdict("broken", f"broken: {each.describe(requests)}", found)
    if guard.ttft_p95_ratio and not any(each.guard == "ttft_p95_ratio" for each in found):
        return _without_ttft(guard, baseline, canary, found)
    return Verdict("within", "within its guard", found)


def _without_ttft(
    guard: CanaryGuard, baseline: ArmFigures, canary: ArmFigures, found: tuple[Comparison, ...]
) -> Verdict:
    """The verdict where the time to first token could not be judged, which streams make necessary."""
    streams = [total(counts) for counts in known_ttfts(baseline, canary)]
    if not any(streams):
        return Verdict("within", "within its guard; without streams there is no ttft_p95_ratio to judge", found)
    missing = max(1, guard.min_requests) - min(streams)
    return Verdict("waiting", f"needs {missing} more streams with a first token on its smaller arm", found)


def look_at(guard: CanaryGuard, baseline: ArmFigures, canary: ArmFigures) -> int:
    """The number of the last look that is due at these counts; -1 before each arm has `min_requests`."""
    smaller, first = min(baseline.placed, canary.placed), max(1, guard.min_requests)
    if smaller < first:
        return -1
    # Rounding must not postpone a look at the count at which it is due.
    return int(math.log(smaller / first) / math.log(LOOK_GROWTH) + 1e-9)


def allowed(confidence: float, look: int) -> float:
    """The probability of a false alarm that this look may spend."""
    return (1.0 - confidence) / ((look + 1) * (look + 2))


def known_ttfts(baseline: ArmFigures, canary: ArmFigures) -> tuple[Counts, Counts]:
    """Times to first token of both arms, with lower bounds for streams without one.

    An arm whose pods hang has no times at all. So streams that still wait, or ended unserved, count with the time so
    far where it is beyond the smaller of the arms' 95th percentiles: the whole time can only be longer.
    """
    finished = [arm.ttft for arm in (baseline, canary) if arm.ttft]
    beyond = min(quantile(counts, P95) for counts in finished) if finished else 0
    return _known(baseline, beyond), _known(canary, beyond)


def _known(arm: ArmFigures, beyond: int) -> Counts:
    open_ended = added(arm.unserved, arm.waiting)
    return added(arm.ttft, {at: count for at, count in open_ended.items() if at > beyond})


def _error_rate(guard: CanaryGuard, baseline: ArmFigures, canary: ArmFigures, alpha: float) -> Comparison | None:
    seen = [arm.ended - arm.left for arm in (canary, baseline)]
    if not all(seen):
        return None
    found = difference(exact_share(canary.failures, seen[0], alpha), exact_share(baseline.failures, seen[1], alpha))
    return Comparison("error_rate", found, guard.error_rate)


def _ttft(guard: CanaryGuard, baseline: ArmFigures, canary: ArmFigures, alpha: float) -> Comparison | None:
    """None where an arm has too few streams."""
    of_baseline, of_canary = known_ttfts(baseline, canary)
    if min(total(of_baseline), total(of_canary)) < max(1, guard.min_requests):
        return None
    one, other = duration(of_canary, P95, alpha), duration(of_baseline, P95, alpha)
    assert one is not None and other is not None
    return Comparison("ttft_p95_ratio", ratio(one, other), guard.ttft_p95_ratio)


def _policy_failures(canary: ArmFigures) -> Comparison | None:
    if not canary.policy_failures:
        return None
    found = exact_share(min(canary.policy_failures, canary.placed), canary.placed, 0.001)
    limit = POLICY_FAILURE_SHARE if canary.policy_failures >= POLICY_FAILURES else math.inf
    return Comparison("policy_failures", found, limit)
