"""Confidence intervals of an arm's own figures, for a single look at a report. Pure; counts in, bounds out. What a
canary is judged by is in `evidence.py`.

Every function takes `alpha`, the chance that is allowed for each side, and effective numbers of requests
(`clusters.py`). Sources: E. B. Wilson, "Probable Inference", JASA 22 (1927) for a share; R. Woodruff, "Confidence
intervals for medians and other position measures", JASA 47 (1952), for a quantile by the bounds of its share;
W. G. Cochran, "Sampling Techniques", chapter 6, for the ratio of two sums.
"""

from __future__ import annotations

import math
from statistics import NormalDist
from typing import Final

from router.trials.clusters import Counts
from router.trials.durations import lower_edge, middle, quantile, total
from router.trials.evidence import Interval, Tail

_NORMAL: Final = NormalDist()


def share(hits: float, of: float, alpha: float) -> Interval:
    """A share with Wilson's score interval; from 0 to 1 where there are no observations."""
    if of <= 0:
        return Interval(0.0, 0.0, 1.0)
    z = _z(alpha)
    p, square = hits / of, z * z
    centre = (p + square / (2 * of)) / (1 + square / of)
    half = z / (1 + square / of) * math.sqrt(p * (1 - p) / of + square / (4 * of * of))
    # The interval of 0 hits begins at 0 and that of all hits ends at 1, in spite of rounding.
    return Interval(p, max(0.0, centre - half) if hits else 0.0, min(1.0, centre + half) if hits < of else 1.0)


def duration(counts: Counts, q: float, alpha: float, weight: float = 1.0) -> Interval | None:
    """A quantile in seconds with its bounds, whatever the distribution; None without durations."""
    if not total(counts):
        return None
    tail = Tail(counts, weight)
    beyond = share((1.0 - q) * tail.of, tail.of, alpha)
    high = lower_edge(tail.edge(beyond.low)) if beyond.low * tail.of >= 1.0 else math.inf
    # The value is the middle of its bucket, which a bound in the same bucket may pass.
    value = middle(quantile(counts, q))
    return Interval(value, min(value, lower_edge(tail.edge(beyond.high))), max(value, high))


def mean(count: int, sum_: float, squares: float, alpha: float, weight: float = 1.0) -> Interval | None:
    """A mean with its normal interval; None without values."""
    if count <= 0:
        return None
    value = sum_ / count
    if count < 2:
        return Interval(value, 0.0, math.inf)
    variance = max(0.0, squares - count * value * value) / (count - 1)
    half = _z(alpha) * math.sqrt(variance / (count * weight))
    return Interval(value, max(0.0, value - half), value + half)


def ratio_of_sums(parts: Counts, wholes: Counts, alpha: float) -> Interval:
    """A part of a whole, both summed by cluster, which are the units that vary (delta method, Cochran 6.13)."""
    part, whole, clusters = sum(parts.values()), sum(wholes.values()), len(wholes)
    if clusters < 2 or whole <= 0:
        return Interval(part / whole if whole else 0.0, 0.0, 1.0)
    value = part / whole
    spread = sum((parts.get(at, 0) - value * each) ** 2 for at, each in wholes.items()) / (clusters - 1)
    half = _z(alpha) * math.sqrt(spread * clusters) / whole
    return Interval(value, max(0.0, value - half), min(1.0, value + half))


def _z(alpha: float) -> float:
    return -_NORMAL.inv_cdf(alpha)
