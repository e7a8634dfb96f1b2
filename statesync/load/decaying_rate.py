"""A rate of events from counts that arrive irregularly. Pure: no clock of its own."""

from __future__ import annotations

from collections.abc import Iterable
from math import exp, expm1
from typing import Final

MEMORY_S: Final = 0.5
"""Seconds after which an event weighs 1/e: long enough to be smooth at 20 a second, short enough to follow a burst."""


class DecayingRate:
    """Events a second; each weighs exp(-age / MEMORY_S)."""

    __slots__ = ("_at", "weight")

    def __init__(self) -> None:
        self.weight = 0.0
        """Weight of all events together at the last one; 0.0 before the first."""
        self._at = 0.0

    def add(self, events: float, now: float, over_s: float) -> None:
        """Count events, spread evenly over the last `over_s` seconds: a late count is no burst."""
        x = over_s / MEMORY_S
        self.weight = self.per_s(now) * MEMORY_S + (events * -expm1(-x) / x if x > 0.0 else events)
        self._at = now

    def per_s(self, now: float) -> float:
        """The rate at `now`; for a time before the last event, the rate at that event."""
        passed_s = now - self._at
        return (self.weight * exp(-passed_s / MEMORY_S) if passed_s > 0.0 else self.weight) / MEMORY_S

    def __repr__(self) -> str:
        return f"<DecayingRate {self.weight / MEMORY_S:.3g}/s at {self._at:g}>"


def together(rates: Iterable[DecayingRate], now: float) -> DecayingRate:
    """The sum of several rates."""
    whole = DecayingRate()
    for each in rates:
        whole.add(each.per_s(now) * MEMORY_S, now, 0.0)
    return whole
