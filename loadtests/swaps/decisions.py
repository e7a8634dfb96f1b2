"""Durations of picks from a metrics page: the buckets of `turnout_decision_seconds`, and the difference of two
readings. Pure.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

SIGMAS = 5
"""Standard errors that count as chance."""
BUCKETS = "turnout_decision_seconds_bucket{"


class Decisions(dict[float, int]):
    """Cumulative counts of picks by the histogram's upper bounds in seconds, as Prometheus has them."""

    @classmethod
    def read(cls, pages: Iterable[str]) -> Decisions:
        """The sum over pools and over the pages of several replicas."""
        found = cls()
        for page in pages:
            for line in page.splitlines():
                if line.startswith(BUCKETS):
                    sample, _, count = line.rpartition(" ")
                    bound = float(sample.partition('le="')[2].partition('"')[0])
                    found.add({bound: int(float(count))})
        return found

    def add(self, more: Mapping[float, int]) -> None:
        """Add these counts."""
        for bound, count in more.items():
            self[bound] = self.get(bound, 0) + count

    def since(self, before: Decisions) -> Decisions:
        """The picks since another reading."""
        return Decisions({bound: count - before.get(bound, 0) for bound, count in self.items()})

    @property
    def count(self) -> int:
        """All picks."""
        return self.get(math.inf, 0)

    def bucket(self, share: float) -> int:
        """The bucket of this quantile of the picks, from 0; -1 of no picks."""
        for at, bound in enumerate(sorted(self)):
            if self.count and self[bound] >= share * self.count:
                return at
        return -1

    def over(self, bound_s: float) -> float:
        """The share of picks above one of the bounds."""
        return 1.0 - self[bound_s] / self.count if self.count else 0.0

    def bound_s(self, share: float) -> float:
        """The upper bound of that bucket in seconds; 0.0 of no picks."""
        at = self.bucket(share)
        return sorted(self)[at] if at >= 0 else 0.0


def slower(calm: Decisions, rush: Decisions) -> bool:
    """Whether picks of the rush took longer than those of the calm stretches: more than a hundredth of them lie beyond
    the bucket after the one that holds the calm p99, by more than chance explains.

    Each share has the standard error of a binomial, sqrt(0.01 * 0.99 / picks); the margin is five standard errors of
    the difference.
    """
    bounds, beyond = sorted(rush), calm.bucket(0.99) + 1
    if not calm.count or not rush.count or beyond >= len(bounds):
        return False
    margin = SIGMAS * math.sqrt(0.01 * 0.99 * (1 / calm.count + 1 / rush.count))
    return rush.over(bounds[beyond]) > 0.01 + margin
