"""How fast a queue empties: requests and tokens that left it for a pod, per second in which something waited. Pure: no
clock of its own."""

from __future__ import annotations

from math import exp, sqrt
from typing import Final

MEMORY_S: Final = 20.0
"""Seconds of waiting after which a departure weighs 1/e: long enough for requests of many seconds, short enough to
follow pods that come."""


class DrainRate:
    """The speed of one queue. Time in which nothing waits says nothing of it and is not counted."""

    __slots__ = ("_at", "_left", "_tokens", "_waited_s")

    def __init__(self, now: float) -> None:
        """Something waits from `now` on."""
        self._at = now
        self._waited_s = 0.0
        self._left = 0.0
        self._tokens = 0.0

    def pauses(self, now: float) -> None:
        """Nothing waits any more."""
        self._pass(now)

    def goes_on(self, now: float) -> None:
        """Something waits again."""
        self._at = now

    def leaves(self, now: float, tokens: int) -> None:
        """A request left the queue for a pod."""
        self._pass(now)
        self._left += 1.0
        self._tokens += tokens

    def per_s(self, now: float) -> float:
        """Requests a second; 0.0 before the first."""
        waited_s, left, _ = self._at_time(now)
        return left / waited_s if waited_s > 0.0 else 0.0

    def tokens_per_s(self, now: float) -> float:
        """Their tokens a second; 0.0 before the first."""
        waited_s, _, tokens = self._at_time(now)
        return tokens / waited_s if waited_s > 0.0 else 0.0

    def at_most_per_s(self, now: float) -> float:
        """The highest rate that is likely: two standard deviations above the count. A queue that has just begun may be
        of any speed, so that nothing is refused because of the little that is known of it."""
        waited_s, left, _ = self._at_time(now)
        return (left + 2.0 * sqrt(left) + 2.0) / waited_s if waited_s > 0.0 else float("inf")

    def _pass(self, now: float) -> None:
        self._waited_s, self._left, self._tokens = self._at_time(now)
        self._at = now

    def _at_time(self, now: float) -> tuple[float, float, float]:
        passed_s = max(0.0, now - self._at)
        kept = exp(-passed_s / MEMORY_S)
        return self._waited_s * kept + passed_s, self._left * kept, self._tokens * kept

    def __repr__(self) -> str:
        return f"<DrainRate {self._left:.3g} requests in {self._waited_s:.3g} s>"
