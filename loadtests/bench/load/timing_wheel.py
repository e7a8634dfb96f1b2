"""A timing wheel: thousands of paced streams on one timer, so that pacing costs next to nothing.

It knows no streams, only items that advance one step at a time until their last.
"""

from __future__ import annotations

import asyncio
from typing import Protocol

TICK_S = 0.001
"""uvloop's own timers are no finer."""


class Advancing(Protocol):
    """An item on the wheel."""

    def advance(self) -> bool:
        """Take one step; returns whether there is another."""
        ...


class Wheel:
    """Each item advances once in every `gap_s`; with no gap, once in every turn of the loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop, gap_s: float) -> None:
        self._loop = loop
        self._slots: list[list[Advancing]] = [[] for _ in range(max(1, round(gap_s / TICK_S)))]
        self._paced = gap_s > 0
        self._position = 0
        self._began = 0.0
        self._turning = False
        self.waiting = 0
        """Items on the wheel."""

    def add(self, item: Advancing) -> None:
        """Add an item; it advances first after a whole gap."""
        self._slots[self._position % len(self._slots)].append(item)
        self.waiting += 1
        if not self._turning:
            self._turning = True
            # The position does not move while the wheel is empty: time starts again here.
            self._began = self._loop.time() - self._position * TICK_S
            self._schedule()

    def turn_to(self, position: int) -> None:
        """Advance all items due up to `position`, in ticks since the wheel began; late ones catch up."""
        while self._position < position and self.waiting:
            self._position += 1
            slot = self._slots[self._position % len(self._slots)]
            due, slot[:] = slot[:], []
            going = [item for item in due if item.advance()]
            # Items added meanwhile are in this slot as well, and stay.
            slot += going
            self.waiting -= len(due) - len(going)
        self._position = max(self._position, position)

    def _tick(self) -> None:
        if self._paced:
            self.turn_to(int((self._loop.time() - self._began) / TICK_S))
        else:
            self.turn_to(self._position + 1)
        self._turning = self.waiting > 0
        if self._turning:
            self._schedule()

    def _schedule(self) -> None:
        if self._paced:
            self._loop.call_at(self._began + (self._position + 1) * TICK_S, self._tick)
        else:
            self._loop.call_soon(self._tick)
