"""How long picks took, out of a metrics page: the buckets of `turnout_decision_seconds`, and what lies between two
readings. Pure.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

SIGMAS = 5
"""Standard errors that count as chance."""
BUCKETS = "turnout_decision_seconds_bucket{"


class Decisions(dict[float, int]):
    """Picks that took at most so many seconds, by the histogram's upper bounds; cumulative, as Prometheus has them."""

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
        """Count these as well."""
        for bound, count in more.items():
            self[bound] = self.get(bound, 0) + count

    def since(self, before: Decisions) -> Decisions:
        """Those after another reading."""
        return Decisions({bound: count - before.get(bound, 0) for bound, count in self.items()})

    @property
    def count(self) -> int:
        """All of them."""
        return self.get(math.inf, 0)

    def bucket(self, share: float) -> int:
        """Which bucket the slowest of this share of picks fell into, from 0; -1 of no picks."""
        for at, bound in enumerate(sorted(self)):
            if self.count and self[bound] >= share * self.count:
                return at
        return -1

    def over(self, bound_s: float) -> float:
        """The share of picks that took longer than one of the bounds."""
        return 1.0 - self[bound_s] / self.count if self.count else 0.0

    def bound_s(self, share: float) -> float:
        """The upper bound of that bucket in seconds; 0.0 of no picks."""
        at = self.bucket(share)
        return sorted(self)[at] if at >= 0 else 0.0


def slower(calm: Decisions, rush: Decisions) -> bool:
    """Whether picks of the rush took longer than those of the calm: more than a hundredth of them is beyond the bucket
    after the one that holds the calm's p99, by more than chance explains.

    Both shares are counted, each with the standard error of a binomial, sqrt(0.01 * 0.99 / picks); the margin is five
    of the difference's.
    """
    bounds, beyond = sorted(rush), calm.bucket(0.99) + 1
    if not calm.count or not rush.count or beyond >= len(bounds):
        return False
    margin = SIGMAS * math.sqrt(0.01 * 0.99 * (1 / calm.count + 1 / rush.count))
    return rush.over(bounds[beyond]) > 0.01 + margin
