"""Confidence intervals for what a canary is judged by. Pure; counts in, bounds out; knows no policy.

Every function takes `alpha`, the chance that is allowed for each side: the two bounds hold together with certainty
1 - 2 alpha, and each alone with 1 - alpha. Sources: E. B. Wilson, "Probable Inference", JASA 22 (1927) for a share;
C. J. Clopper and E. S. Pearson, Biometrika 26 (1934), for one that is safe for rare events too; R. G. Newcombe,
"Interval estimation for the difference between independent proportions", Statistics in Medicine 17 (1998), method 10,
for the difference of two; W. J. Conover, "Practical Nonparametric Statistics", section 3.2, for quantiles by order
statistics; G. Y. Zou and A. Donner, "Construction of confidence limits about effect measures", Statistics in Medicine
27 (2008), for putting two intervals together into one of their difference (MOVER), here also on logarithms, which
makes it a ratio; W. G. Cochran, "Sampling Techniques", chapter 6, for the ratio of two sums.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from statistics import NormalDist
from typing import Final, NamedTuple

from router.trials.durations import GROWTH, Counts, lower_edge, middle, quantile, ranked, total

_NORMAL: Final = NormalDist()
_HALVINGS: Final = 40
"""Of the range in which a bound is sought: 1e-12 of it is left."""

_TAIL_SDS: Final = 12.0
"""Standard deviations from a binomial's mean, beyond which its probability is below 1e-30."""


class Interval(NamedTuple):
    """An estimate and its bounds; `high` is inf, or `low` 0.0, where the data allow none."""

    value: float
    low: float
    high: float


def share(hits: int, of: int, alpha: float) -> Interval:
    """A share with Wilson's score interval; from 0 to 1 where there are no observations."""
    if of <= 0:
        return Interval(0.0, 0.0, 1.0)
    z = _z(alpha)
    p, square = hits / of, z * z
    centre = (p + square / (2 * of)) / (1 + square / of)
    half = z / (1 + square / of) * math.sqrt(p * (1 - p) / of + square / (4 * of * of))
    # The interval of 0 hits begins at 0 and that of all hits ends at 1, in spite of rounding.
    return Interval(p, max(0.0, centre - half) if hits else 0.0, min(1.0, centre + half) if hits < of else 1.0)


def exact_share(hits: int, of: int, alpha: float) -> Interval:
    """A share with bounds that hold however rare the event is, and so are wider than Wilson's.

    With 1 % of failures and a chance of 0.1 % to be wrong, Wilson's lower bound is wrong three times as often.
    """
    if of <= 0:
        return Interval(0.0, 0.0, 1.0)
    low = _bisect(lambda p: _tail(hits, of, p, up=True) < alpha, 0.0, hits / of) if hits else 0.0
    high = _bisect(lambda p: _tail(hits, of, p, up=False) >= alpha, hits / of, 1.0) if hits < of else 1.0
    return Interval(hits / of, low, high)


def difference(of_one: Interval, of_other: Interval) -> Interval:
    """The first less the second, from an interval of each (Newcombe's method 10 where these are Wilson's)."""
    value = of_one.value - of_other.value
    below = math.hypot(of_one.value - of_one.low, of_other.high - of_other.value)
    above = math.hypot(of_one.high - of_one.value, of_other.value - of_other.low)
    return Interval(value, value - below, value + above)


def duration(counts: Counts, q: float, alpha: float) -> Interval | None:
    """A quantile in seconds with its bounds by order statistics; None without durations.

    Free of any assumption on how durations are distributed. Bounds are the outer edges of their buckets.
    """
    size = total(counts)
    if not size:
        return None
    below, above = ranks(size, q, alpha)
    low = lower_edge(ranked(counts, below)) if below else 0.0
    high = lower_edge(ranked(counts, above)) * GROWTH if above <= size else math.inf
    return Interval(middle(quantile(counts, q)), low, high)


def ranks(size: int, q: float, alpha: float) -> tuple[int, int]:
    """Which of `size` values in ascending order bound the q-quantile; 0 and size + 1 stand for no bound.

    At least r values lie below the quantile unless a binomial (size, q) is at most r - 1.
    """
    mean, sd = size * q, math.sqrt(size * q * (1 - q))
    start = max(0, int(mean - _TAIL_SDS * sd) - 1)
    below, above, running = 0, size + 1, 0.0
    for successes in range(start, size + 1):
        if 1.0 - running <= alpha:
            above = successes
            break
        if running <= alpha:
            below = successes
        running += _binomial(size, successes, q)
    return below, above


def ratio(of_one: Interval, of_other: Interval) -> Interval:
    """The first over the second: their difference on logarithms. Both values must be positive."""
    logs = difference(_logs(of_one), _logs(of_other))
    return Interval(math.exp(logs.value), math.exp(logs.low), math.exp(logs.high) if logs.high < 700 else math.inf)


def mean(count: int, sum_: float, squares: float, alpha: float) -> Interval | None:
    """A mean with its normal interval; None without values."""
    if count <= 0:
        return None
    value = sum_ / count
    if count < 2:
        return Interval(value, 0.0, math.inf)
    variance = max(0.0, squares - count * value * value) / (count - 1)
    half = _z(alpha) * math.sqrt(variance / count)
    return Interval(value, max(0.0, value - half), value + half)


class PairSums(NamedTuple):
    """Sums over requests of a part x of a whole y: what the ratio of the two sums and its variance are made of."""

    requests: int
    x: float
    y: float
    xx: float
    yy: float
    xy: float


def ratio_of_sums(sums: PairSums, alpha: float) -> Interval:
    """x / y as a share of the whole, requests being the units that vary (delta method, Cochran 6.13)."""
    if sums.requests < 2 or sums.y <= 0:
        return Interval(sums.x / sums.y if sums.y > 0 else 0.0, 0.0, 1.0)
    value = sums.x / sums.y
    spread = max(0.0, sums.xx - 2 * value * sums.xy + value * value * sums.yy) / (sums.requests - 1)
    half = _z(alpha) * math.sqrt(spread * sums.requests) / sums.y
    return Interval(value, max(0.0, value - half), min(1.0, value + half))


def _z(alpha: float) -> float:
    return -_NORMAL.inv_cdf(alpha)


def _bisect(is_low: Callable[[float], bool], low: float, high: float) -> float:
    """Where `is_low` turns from true to false."""
    for _ in range(_HALVINGS):
        middle_ = (low + high) / 2
        low, high = (middle_, high) if is_low(middle_) else (low, middle_)
    return (low + high) / 2


def _tail(hits: int, of: int, p: float, *, up: bool) -> float:
    """The chance of `hits` and more (`up`) or fewer, p being on the other side of them: terms only shrink."""
    term = whole = _binomial(of, hits, p)
    at, odds = hits, p / (1 - p)
    while term > whole * 1e-12 and (at < of if up else at > 0):
        term *= (of - at) / (at + 1) * odds if up else at / (of - at + 1) / odds
        at += 1 if up else -1
        whole += term
    return whole


def _binomial(size: int, successes: int, q: float) -> float:
    ways = math.lgamma(size + 1) - math.lgamma(successes + 1) - math.lgamma(size - successes + 1)
    return math.exp(ways + successes * math.log(q) + (size - successes) * math.log1p(-q))


def _logs(of: Interval) -> Interval:
    low = math.log(of.low) if of.low > 0 else -math.inf
    return Interval(math.log(of.value), low, math.log(of.high) if of.high < math.inf else math.inf)
