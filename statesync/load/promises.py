"""What this replica's requests on one pod were promised: sums by the time between two tokens. Knows no clock.

Clients may ask for any time, so times are rounded down to steps: the sums stay few.
"""

from __future__ import annotations

from math import floor, log2
from typing import Final, NamedTuple

from schedulers.types import Promised

STEPS: Final = 4
"""Steps in a doubling of the time: 19 % each."""

LEAST_S: Final = 1e-4
MOST_S: Final = 100.0
"""Times beyond these are counted at them, so that there are 80 sums at most."""


class Promise(NamedTuple):
    """One request's."""

    tpot_s: float
    """Seconds between two tokens; above 0."""
    weight: float


class Promises:
    """The sums of one pod."""

    __slots__ = ("_counts", "_weights")

    def __init__(self) -> None:
        self._weights: dict[float, float] = {}
        self._counts: dict[float, int] = {}

    def add(self, promise: Promise) -> None:
        """Count a request."""
        step = step_of(promise.tpot_s)
        self._weights[step] = self._weights.get(step, 0.0) + promise.weight
        self._counts[step] = self._counts.get(step, 0) + 1

    def remove(self, promise: Promise) -> None:
        """Take a request off that was counted."""
        step = step_of(promise.tpot_s)
        self._counts[step] -= 1
        self._weights[step] -= promise.weight
        if not self._counts[step]:
            del self._counts[step], self._weights[step]

    def shown(self, own: int, inflight: int) -> Promised:
        """The sums for `PodLoad.promised`. The requests of other replicas, `inflight - own`, are taken to be promised
        the same."""
        if not self._weights:
            return ()
        share = inflight / own if own > 0 else 1.0
        return tuple([(step, weight * share) for step, weight in self._weights.items()])


def step_of(tpot_s: float) -> float:
    """The time rounded down to a step."""
    bounded = min(max(tpot_s, LEAST_S), MOST_S)
    return float(2.0 ** (floor(log2(bounded) * STEPS + 1e-9) / STEPS))
