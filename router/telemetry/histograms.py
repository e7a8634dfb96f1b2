"""Histograms that cost the data plane one bisection: plain lists of ints, turned into Prometheus' form at scrape time.

No locks: one thread observes; another may read at any time and sees correct counts, at worst one observation apart from
the sum.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Sequence
from itertools import pairwise

TTFT_BOUNDS_S = (
    *(0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75),
    *(1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0, 80.0, 160.0, 640.0, 2560.0),
)
"""vLLM's bounds, so that panels of gateway and engine can be compared."""

ITL_BOUNDS_S = (
    *(0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75),
    *(1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0, 80.0),
)
"""vLLM's bounds."""

E2E_BOUNDS_S = (
    *(0.3, 0.5, 0.8, 1.0, 1.5, 2.0, 2.5, 5.0, 10.0, 15.0, 20.0, 30.0, 40.0, 50.0, 60.0),
    *(120.0, 240.0, 480.0, 960.0, 1920.0, 7680.0),
)
"""vLLM's bounds."""

DECISION_BOUNDS_S = (1e-6, 2e-6, 5e-6, 1e-5, 2e-5, 5e-5, 1e-4, 2e-4, 5e-4, 1e-3)
"""A pick takes microseconds; one above a millisecond is a defect."""

OVERHEAD_BOUNDS_S = (
    *(2e-5, 5e-5, 1e-4, 2e-4, 5e-4, 1e-3, 2e-3, 5e-3),
    *(1e-2, 2e-2, 5e-2, 0.1, 0.25, 0.5, 1.0),
)
"""Time in the gateway that is not the pod's: tens of microseconds, seconds when requests queue for a pod."""


class Histogram:
    """Counts of observations by bucket. `bounds` are inclusive upper bounds, ascending."""

    __slots__ = ("_at", "_bounds", "_counts", "_high", "_low", "_sum")

    def __init__(self, bounds: Sequence[float]) -> None:
        """Raises ValueError if the bounds do not ascend."""
        if not bounds or any(low >= high for low, high in pairwise(bounds)):
            raise ValueError("bounds must ascend and not be empty")
        self._bounds = tuple(bounds)
        self._counts = [0] * (len(bounds) + 1)
        self._sum = 0.0
        # The last value's bucket: the next value is mostly in it too, and a bisection costs 0.2 us.
        self._at = 0
        self._low = -math.inf
        self._high = self._bounds[0]

    def observe(self, value: float) -> None:
        """Count one value, in the unit of the bounds."""
        if not self._low < value <= self._high:
            self._turn_to(value)
        counts, at = self._counts, self._at
        counts[at] = counts[at] + 1
        self._sum += value

    def _turn_to(self, value: float) -> None:
        bounds = self._bounds
        at = self._at = bisect_left(bounds, value)
        self._low = bounds[at - 1] if at else -math.inf
        self._high = bounds[at] if at < len(bounds) else math.inf

    @property
    def bounds(self) -> tuple[float, ...]:
        """The upper bounds, without the infinite one."""
        return self._bounds

    @property
    def count(self) -> int:
        """How many values were observed."""
        return sum(self._counts)

    @property
    def sum(self) -> float:
        """Their sum."""
        return self._sum

    def cumulative(self) -> list[int]:
        """Observations at or below each bound; the last number, over the infinite bucket, is all of them."""
        running = 0
        totals = []
        for count in self._counts.copy():
            running += count
            totals.append(running)
        return totals

    def quantile(self, q: float) -> float:
        """The upper bound of the bucket that holds the q-quantile; 0.0 before any value, inf above the last bound."""
        totals = self.cumulative()
        if totals[-1] == 0:
            return 0.0
        at = bisect_left(totals, q * totals[-1])
        return self._bounds[at] if at < len(self._bounds) else float("inf")
