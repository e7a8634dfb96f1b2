"""A few requests that the gateway has had, with their snapshots and answers: a new plugin is checked on them before it
is offered, and the console shows how they were decided. Bounded in number and in rate.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Final, NamedTuple

from router.plugins.examples import Example
from schedulers.types import Decision, LoadSnapshot, Rejection, RequestInfo

KEPT: Final = 32
EVERY_S: Final = 0.1


class Sample(NamedTuple):
    """One request."""

    number: int
    """Counts them, from 1."""
    at: float
    """When it arrived, on the data plane's clock."""
    example: Example
    answer: Decision | Rejection


class Samples:
    """The last `KEPT` requests, taken at most one every `EVERY_S`."""

    __slots__ = ("_kept", "_taken", "next_at")

    def __init__(self) -> None:
        """None yet."""
        self.next_at = 0.0
        """Arrival time from which the next request is taken. The data plane reads it, on its clock."""
        self._kept: deque[Sample] = deque(maxlen=KEPT)
        self._taken = 0

    def take(self, now: float, request: RequestInfo, snapshot: LoadSnapshot, answer: Decision | Rejection) -> None:
        """Keep this request."""
        self._taken += 1
        self.next_at = now + EVERY_S
        self._kept.append(Sample(self._taken, now, Example(request, snapshot), answer))

    def recent(self) -> Sequence[Example]:
        """The requests kept, the oldest first."""
        return tuple([sample.example for sample in self._kept])

    def after(self, number: int) -> Sequence[Sample]:
        """Those of a higher number, the oldest first."""
        return [sample for sample in self._kept if sample.number > number]
