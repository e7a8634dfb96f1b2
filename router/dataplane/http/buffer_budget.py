"""The bytes held for all clients together: bodies, half-read heads, answers that slow clients have not taken.

Each connection has an account. What one connection may hold is bounded by the other limits; 20,000 connections are
bounded only here. The first `UNCOUNTED` bytes of a request are free, so that usual requests are served while others
hold all that they may. It costs a request that is read at once one comparison. Knows no socket.
"""

from __future__ import annotations

from typing import Final

from router.errors import Shed

UNCOUNTED: Final = 16384
"""Bytes of a request that are not counted. 20,000 connections hold 320 MB of them at most."""

READ_AHEAD: Final = 2048
"""Bytes that a request counts for, besides its own, which is read while another is answered."""


class BufferBudget:
    """The accounts of all connections of a listener."""

    __slots__ = ("limit", "refusals", "used")

    def __init__(self, limit: int) -> None:
        """`limit` in bytes; 0 is no limit."""
        self.limit = limit
        self.used = 0
        self.refusals = 0
        """Counter: requests and slow clients that were refused for it."""

    def has_room(self, more: int) -> bool:
        """Whether so many bytes more may be held; counts a refusal if not."""
        if self.limit and self.used + more > self.limit:
            self.refusals += 1
            return False
        return True


class HeldBytes:
    """What is held for one connection."""

    __slots__ = ("_budget", "_partial", "_unsent", "bodies")

    def __init__(self, budget: BufferBudget) -> None:
        self._budget = budget
        self._partial = 0
        """Of the request being read."""
        self._unsent = 0
        """Of answers, while the client does not take them."""
        self.bodies = 0
        """Of the requests that were read and have not ended."""

    def expect(self, total: int) -> None:
        """A body of `total` bytes is about to come. Raises Shed when there is no room for it."""
        if total > UNCOUNTED and not self._budget.has_room(total - UNCOUNTED):
            raise _full()

    def reading(self, total: int) -> None:
        """`total` bytes of a request have come, and it is not whole. Raises Shed when there is no room for them."""
        counted = total - UNCOUNTED if total > UNCOUNTED else 0
        more = counted - self._partial
        if more > 0 and not self._budget.has_room(more):
            raise _full()
        self._partial = counted
        self._budget.used += more

    def read(self, size: int) -> None:
        """A request of `size` bytes is whole. Raises Shed when there is no room for it."""
        self.reading(size)
        self.bodies += self._partial
        self._partial = 0

    def read_ahead(self) -> None:
        """A request is whole while another one is answered. Raises Shed when there is no room for it."""
        if not self._budget.has_room(READ_AHEAD):
            raise _full()
        self._budget.used += READ_AHEAD
        self.bodies += READ_AHEAD

    def ended(self) -> None:
        """All requests that were read have ended."""
        self._budget.used -= self.bodies
        self.bodies = 0

    def unsent(self, size: int) -> bool:
        """`size` bytes of answers wait for the client. False when there is no room for them."""
        if size > self._unsent and not self._budget.has_room(size - self._unsent):
            return False
        self._budget.used += size - self._unsent
        self._unsent = size
        return True

    def closed(self) -> None:
        """The connection is closed, or nothing more is read from it as requests."""
        self._budget.used -= self.bodies + self._partial + self._unsent
        self.bodies = self._partial = self._unsent = 0

    def __repr__(self) -> str:
        return f"<HeldBytes {self.bodies} read, {self._partial} being read, {self._unsent} unsent>"


def _full() -> Shed:
    return Shed(
        "This gateway holds all the bytes of clients that it may (limits.buffer_budget_bytes); try again.",
        retry_after_s=1.0,
    )
