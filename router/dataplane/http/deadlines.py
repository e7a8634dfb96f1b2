"""Deadlines of all connections, checked a few times a second. Knows only `expires_at` and `expire`.

A timer costs 1.0 us to set and cancel, and every chunk of a stream would move one; reading the clock and writing a
float costs 0.1 us, and a pass over 5,000 connections 0.13 ms. So a deadline is kept to within `resolution_s`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Final, Protocol

NEVER: Final = float("inf")

_log = logging.getLogger("turnout.sweep")


class Expiring(Protocol):
    """What can run out of time."""

    expires_at: float

    def expire(self, now: float, /) -> None:
        """Its time is up; it either ends or moves `expires_at`."""


class Deadlines:
    """Calls `expire` on each watched member whose `expires_at` has passed."""

    def __init__(self, clock: Callable[[], float], resolution_s: float) -> None:
        self.clock = clock
        self.resolution_s = resolution_s
        self.members: set[Expiring] = set()
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Begin to look; needs a running loop."""
        self._timer = asyncio.get_running_loop().call_later(self.resolution_s, self._again)

    def stop(self) -> None:
        """Look no more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def look(self) -> None:
        """One pass. An exception in one member is logged and does not keep the others from their end."""
        now = self.clock()
        for member in [member for member in self.members if member.expires_at <= now]:
            try:
                member.expire(now)
            except Exception:  # noqa: BLE001  one broken member must not stop all timeouts
                _log.exception("a deadline could not be acted on")

    def _again(self) -> None:
        self.look()
        self.start()


def resolution_for(*limits_s: float) -> float:
    """A quarter of the shortest limit in use, between 5 and 250 ms."""
    shortest = min((limit for limit in limits_s if limit > 0), default=1.0)
    return min(0.25, max(0.005, shortest / 4))
