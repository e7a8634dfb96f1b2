"""The fewest requests after which any always-valid test of a guard's kind can be expected to decide. Pure.

A test that is wrong with a probability of at most alpha needs log(1 / alpha) / I requests on average, where I is the
information that a request gives against the hypothesis that explains it best (A. Wald, Annals of Mathematical
Statistics 16 (1945); for tests without an end: R. Farrell, 35 (1964)).
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence
from typing import Final

_STEPS: Final = 2000


def divergence(p: float, q: float) -> float:
    """The information of one yes or no of probability p against probability q (Kullback and Leibler)."""
    yes = p * math.log(p / q) if p else 0.0
    return yes + ((1 - p) * math.log((1 - p) / (1 - q)) if p < 1 else 0.0)


def of_shares(baseline: float, candidate: float, limit: float, part: float, alpha: float) -> float:
    """Requests of both arms for a difference of shares; `part` of them are the candidate's."""
    points = (((at + 0.01) / _STEPS) ** 2 * (1 - limit) for at in range(_STEPS))  # finer where shares are small
    least = min((1 - part) * divergence(baseline, p) + part * divergence(candidate, p + limit) for p in points)
    return math.log(1 / alpha) / least


def of_quantiles(
    baseline: Sequence[float], candidate: Sequence[float], limit: float, beyond: float, part: float, alpha: float
) -> float:
    """Requests of both arms for a ratio of the durations beyond which a share `beyond` is; from samples of each arm.

    Wherever the baseline's quantile is, its own durations or the candidate's speak against it, by how many are longer.
    """
    known, tried = sorted(baseline), sorted(candidate)
    least = math.inf
    for at in range(1, _STEPS):
        point = known[len(known) * at // _STEPS]
        own, other = _beyond(known, point), _beyond(tried, point * limit)
        against = part * divergence(other, beyond) if other > beyond else 0.0
        least = min(least, (1 - part) * divergence(own, beyond) + against)
    return math.log(1 / alpha) / least if least else math.inf


def _beyond(ordered: Sequence[float], point: float) -> float:
    return 1.0 - bisect_right(ordered, point) / len(ordered)
