"""A histogram of durations, fine enough for a 95th percentile, small enough to share, and additive over replicas.

Buckets are 5 % wide, from 0.1 us to over an hour, so that a quantile is exact to 2.5 %. Sums over replicas give the
same quantiles as one replica that counts everything. This file knows no request.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Final

GROWTH: Final = 1.05
"""Each bucket's upper edge over its lower one."""

LEAST_S: Final = 1e-7
"""Shorter durations count as this."""

BUCKETS: Final = 500
"""The last one ends at 3,900 s and also counts longer durations."""

_PER_LOG: Final = 1.0 / math.log(GROWTH)

Counts = Mapping[int, int]
"""Number of durations by bucket; empty buckets are absent."""


def bucket_of(seconds: float) -> int:
    """The bucket that a duration falls into."""
    if seconds <= LEAST_S:
        return 0
    at = int(math.log(seconds / LEAST_S) * _PER_LOG)
    return at if at < BUCKETS else BUCKETS - 1


def lower_edge(at: float) -> float:
    """The lower edge of bucket `at`, in seconds."""
    return LEAST_S * math.pow(GROWTH, at)


def middle(at: int) -> float:
    """The duration that stands for bucket `at`: the geometric mean of its edges, in seconds."""
    return LEAST_S * math.pow(GROWTH, at + 0.5)


class Durations:
    """Counts by bucket, their sum and the sum of their squares."""

    __slots__ = ("counts", "squares", "sum_s")

    def __init__(self) -> None:
        """Empty."""
        self.counts: dict[int, int] = {}
        self.sum_s = 0.0
        self.squares = 0.0

    def observe(self, seconds: float) -> None:
        """Count one duration."""
        at = bucket_of(seconds)
        self.counts[at] = self.counts.get(at, 0) + 1
        self.sum_s += seconds
        self.squares += seconds * seconds


def total(counts: Counts) -> int:
    """Number of durations."""
    return sum(counts.values())


def added(left: Counts, right: Counts) -> dict[int, int]:
    """The sum of two histograms."""
    both = dict(left)
    for at, count in right.items():
        both[at] = both.get(at, 0) + count
    return both


def ranked(counts: Counts, rank: int) -> int:
    """The bucket of the duration that is number `rank` (from 1) in ascending order. Raises ValueError past the last."""
    running = 0
    for at in sorted(counts):
        running += counts[at]
        if running >= rank:
            return at
    raise ValueError(f"there are {running} durations, not {rank}")


def quantile(counts: Counts, q: float) -> int:
    """The bucket that holds the q-quantile. Raises ValueError where there are none."""
    return ranked(counts, max(1, math.ceil(q * total(counts))))
