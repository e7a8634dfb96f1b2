"""How sure a difference is. Pure: Student's t over rounds, and an exact test of counts.

`judge` makes one-sided bounds of a mean at `level`: the chance that a bound is wrong is at most `level` each, if the
rounds' values are about normal, which logarithms of ratios of medians and sums are. Several figures and several looks
share one rate of false alarms by Bonferroni's inequality, which needs no independence. For counts: given the sum of two
Poisson counts of equal exposure, each is binomial with one half if the rates are equal (Przyborowski and Wilenski,
Biometrika 31, 1940).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache
from statistics import fmean, stdev
from typing import Final, NamedTuple

_STEPS: Final = 400
_HALVINGS: Final = 60


class Interval(NamedTuple):
    """A mean between its one-sided bounds."""

    low: float
    mean: float
    high: float


def interval(values: Sequence[float], level: float) -> Interval:
    """Of the mean of at least two values."""
    mean = fmean(values)
    half = t_quantile(1 - level, len(values) - 1) * stdev(values) / math.sqrt(len(values))
    return Interval(mean - half, mean, mean + half)


@cache
def t_quantile(share: float, degrees: int) -> float:
    """The value below which this share (above one half) of Student's t distribution lies."""
    low, high = 0.0, 1.0
    while _t_below(high, degrees) < share:
        high *= 2
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if _t_below(middle, degrees) < share else (low, middle)
    return high


def _t_below(value: float, degrees: int) -> float:
    """P(t <= value) for a value of at least 0, by Simpson's rule over the angle atan(t / sqrt(n)): the density becomes
    cos^(n-1), which is smooth and bounded."""
    angle = math.atan(value / math.sqrt(degrees))
    width = angle / _STEPS
    weights = (1 if at in (0, _STEPS) else 4 if at % 2 else 2 for at in range(_STEPS + 1))
    area = sum(weight * math.pow(math.cos(at * width), degrees - 1) for at, weight in enumerate(weights)) * width / 3
    scale = math.exp(math.lgamma((degrees + 1) / 2) - math.lgamma(degrees / 2)) / math.sqrt(math.pi)
    return 0.5 + scale * area


def chance_of(more: int, fewer: int) -> float:
    """The chance that one of two counts of equal rates is at least `more` where their sum is `more + fewer`."""
    total = more + fewer
    return math.ldexp(sum(math.comb(total, count) for count in range(more, total + 1)), -total)
