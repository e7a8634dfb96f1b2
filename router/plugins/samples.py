"""A few requests that the gateway has had, with their snapshots: a new plugin is checked on them before it is offered.
Bounded in number and in rate.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Final

from router.plugins.examples import Example
from schedulers.types import LoadSnapshot, RequestInfo

KEPT: Final = 32
EVERY_S: Final = 0.1


class Samples:
    """The last `KEPT` requests, taken at most one every `EVERY_S`."""

    __slots__ = ("_kept", "next_at")

    def __init__(self) -> None:
        """None yet."""
        self.next_at = 0.0
        """Arrival time from which the next request is taken. The data plane reads it, on its clock."""
        self._kept: deque[Example] = deque(maxlen=KEPT)

    def take(self, now: float, request: RequestInfo, snapshot: LoadSnapshot) -> None:
        """Keep this request."""
        self.next_at = now + EVERY_S
        self._kept.append(Example(request, snapshot))

    def recent(self) -> Sequence[Example]:
        """The requests kept, the oldest first."""
        return tuple(self._kept)
