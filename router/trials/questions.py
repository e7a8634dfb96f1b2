"""What the guards of a canary ask of the figures: each guard that is on becomes a test. Pure; decides nothing.

Sessions are drawn and their requests are alike, so requests count by the design effect of their arm (`clusters.py`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Final, NamedTuple

from router.trials.clusters import Clustered, effects, longer
from router.trials.durations import GROWTH, Counts, added, quantile, total
from router.trials.evidence import (
    P50,
    P95,
    Interval,
    Quantile,
    Tail,
    Tally,
    against_excess,
    against_shift,
    excess,
    shift,
)
from router.trials.figures import ArmFigures, TrialFigures
from router.trials.fleet import ENOUGH, crowding, is_known
from statesync.store.policy_record import CanaryGuard

RARE_KIND: Final = 0.05
"""A kind of request, streams or whole answers, of which an arm has less than this share is judged if there are enough
of them, and is not waited for if there are not."""

PER_LOG: Final = 1.0 / math.log(GROWTH)
"""Buckets of durations in a factor of e."""


class GuardTest(NamedTuple):
    """One guard's question to the figures."""

    guard: str
    limit: float
    against: Callable[[float, bool], float]
    """(factor, above) -> log evidence that the figure is over the limit, or below it, if each request counted so
    often."""
    interval: Callable[[float], Interval]
    """(log odds) -> the figure with its bounds."""
    value: float
    size: float
    """Requests that it is judged by, on the smaller arm."""
    optional: bool
    """It is about a rare kind of request."""


def questions(guard: CanaryGuard, figures: TrialFigures) -> Iterator[GuardTest]:
    """The tests of the guards that are on and have any figures."""
    arms = figures.canary, figures.baseline
    if guard.error_rate and (test := _failures(guard.error_rate, *arms)):
        yield test
    streams = [_Durations(arm.ttft, (arm.unserved, arm.waiting), arm.ttft_by, arm.placed) for arm in arms]
    wholes = [_Durations(arm.whole, (arm.whole_unserved, arm.whole_waiting), arm.whole_by, arm.placed) for arm in arms]
    paces = [_Durations(arm.tpot, (), arm.tpot_by, arm.placed) for arm in arms]
    for name, limit, of, kind in (
        ("ttft_p50_ratio", guard.ttft_p50_ratio, P50, streams),
        ("ttft_p95_ratio", guard.ttft_p95_ratio, P95, streams),
        ("e2e_p95_ratio", guard.e2e_p95_ratio, P95, wholes),
        ("tpot_p50_ratio", guard.tpot_p50_ratio, P50, paces),
    ):
        if limit and (test := _durations(name, limit, of, kind)):
            yield test
    if guard.pool_p95_ratio and (test := _pool(guard.pool_p95_ratio, figures)):
        yield test


class _Durations(NamedTuple):
    """Durations of one kind of an arm's requests."""

    counts: Counts
    open_ended: tuple[Counts, ...]
    """Lower bounds of those that never came, or have not come yet."""
    cells: Counts
    placed: int
    """The arm's requests of all kinds."""

    def known(self, beyond: int) -> Counts:
        """With the lower bounds that are beyond this bucket."""
        counts = self.counts
        for each in self.open_ended:
            counts = added(counts, {at: count for at, count in each.items() if at > beyond})
        return counts


def known(arms: Sequence[_Durations]) -> list[Counts]:
    """Durations of both arms, with lower bounds for those that never came or have not come yet.

    An arm whose pods hang has no times at all. So requests that still wait, or ended unserved, count with the time so
    far where it is beyond the smaller of the arms' 95th percentiles: the whole time can only be longer.
    """
    finished = [arm.counts for arm in arms if arm.counts]
    beyond = min(quantile(counts, P95.q) for counts in finished) if finished else 0
    return [arm.known(beyond) for arm in arms]


def _failures(limit: float, candidate: ArmFigures, baseline: ArmFigures) -> GuardTest | None:
    arms = candidate, baseline
    seen = [arm.ended - arm.left for arm in arms]
    if not all(seen):
        return None
    factors = effects([Clustered(arm.failures_by, arm.judged_by) for arm in arms])
    one, other = (Tally(arm.failures / by, of / by) for arm, of, by in zip(arms, seen, factors, strict=True))

    def against(factor: float, above: bool) -> float:
        scaled = [Tally(each.hits * factor, each.of * factor) for each in (one, other)]
        return against_excess(scaled[0], scaled[1], limit, above=above)

    found = one.share - other.share
    return GuardTest("error_rate", limit, against, lambda odds: excess(one, other, odds), found, min(seen), False)


def _durations(guard: str, limit: float, of: Quantile, arms: Sequence[_Durations]) -> GuardTest | None:
    counts = known(arms)
    sizes = [total(each) for each in counts]
    rare = all(size < RARE_KIND * max(1, arm.placed) for size, arm in zip(sizes, arms, strict=True))
    if not all(sizes):
        return None if rare else GuardTest(guard, limit, _nothing, _anything, 1.0, 0, False)
    point = quantile(added(*counts), of.q)
    weights = [1.0 / each for each in effects([longer(arm.cells, point) for arm in arms])]
    return _shifted(guard, limit, of, list(zip(counts, weights, strict=True)), min(sizes), rare)


def _shifted(
    guard: str, limit: float, of: Quantile, sides: Sequence[tuple[Counts, float]], size: int, optional: bool
) -> GuardTest:
    """The test of a ratio of two quantiles; each side has its durations and the weight of each."""
    by = math.log(limit) * PER_LOG
    one, other = (Tail(counts, weight) for counts, weight in sides)

    def against(factor: float, above: bool) -> float:
        scaled = [Tail(counts, weight * factor) for counts, weight in sides]
        return against_shift(scaled[0], scaled[1], of, by, above=above)

    value = math.exp((one.edge(of.beyond) - other.edge(of.beyond)) / PER_LOG)
    return GuardTest(guard, limit, against, lambda odds: shift(one, other, of, odds, PER_LOG), value, size, optional)


def _pool(limit: float, figures: TrialFigures) -> GuardTest | None:
    """Of the pool as a whole; no promotion waits for it, since what was before is no arm."""
    if not is_known(figures):
        return None
    test = _shifted("pool_p95_ratio", limit, P95, ((figures.during, 1.0), (figures.before, 1.0)), ENOUGH, True)

    def against(factor: float, above: bool) -> float:
        evidence = test.against(factor, above)
        return min(evidence, crowding(figures)) if above else evidence

    return test._replace(against=against)


def _nothing(_: float, __: bool) -> float:
    return 0.0


def _anything(_: float) -> Interval:
    return Interval(1.0, 0.0, math.inf)
