"""A few of the requests that the gateway has had, with the snapshots they met: what a new plugin is tried on before it
is offered. Bounded, and taken rarely.
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
    """The last ones, at most one every 0.1 s."""

    __slots__ = ("_kept", "next_at")

    def __init__(self) -> None:
        """None yet."""
        self.next_at = 0.0
        """A request that arrives then or later is wanted. Read by the hot path, on its clock."""
        self._kept: deque[Example] = deque(maxlen=KEPT)

    def take(self, now: float, request: RequestInfo, snapshot: LoadSnapshot) -> None:
        """Keep one."""
        self.next_at = now + EVERY_S
        self._kept.append(Example(request, snapshot))

    def recent(self) -> Sequence[Example]:
        """All that are kept, the oldest first."""
        return tuple(self._kept)
