"""Deadlines of all connections, checked a few times a second. Knows only `expires_at` and `expire`.

A timer costs 1.0 us to set and cancel, and every chunk of a stream would move one. Reading the clock and writing a
float costs 0.1 us, and a pass over 5,000 connections 0.13 ms. So `expire` is called up to `resolution_s` late.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Final, Protocol

NEVER: Final = float("inf")
"""The `expires_at` of a connection without a deadline."""

_log = logging.getLogger("turnout.deadlines")


class Expiring(Protocol):
    """A connection with a deadline."""

    expires_at: float
    """The deadline, on the clock of `Deadlines`."""

    def expire(self, now: float, /) -> None:
        """The deadline passed: close, or move `expires_at`; otherwise this is called again in the next pass."""


class Deadlines:
    """Calls `expire` on each member whose `expires_at` has passed."""

    def __init__(self, clock: Callable[[], float], resolution_s: float) -> None:
        self.clock = clock
        self.resolution_s = resolution_s
        self.members: set[Expiring] = set()
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Begin the passes; needs a running loop."""
        self._timer = asyncio.get_running_loop().call_later(self.resolution_s, self._again)

    def stop(self) -> None:
        """End the passes."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def look(self) -> None:
        """One pass over all members. An exception in one member is logged, and the pass goes on with the others."""
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
    """Seconds between two passes: a quarter of the shortest limit in use, between 5 and 250 ms."""
    shortest = min((limit for limit in limits_s if limit > 0), default=1.0)
    return min(0.25, max(0.005, shortest / 4))
