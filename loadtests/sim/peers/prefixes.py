"""A peer's memory of the prompts it sent to a pod, with LRU eviction. It knows no algorithm."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence


class SentPrefixes:
    """One pod's remembered units. A unit's id stands for all of the prompt up to its end, so the set is the tree."""

    def __init__(self, capacity: int | None = None) -> None:
        """`capacity` in units; None for no bound."""
        self._units: OrderedDict[int, None] = OrderedDict()
        self._capacity = capacity

    def __len__(self) -> int:
        return len(self._units)

    def match(self, units: Sequence[int]) -> int:
        """How many leading units it holds."""
        held = self._units
        for at, unit in enumerate(units):
            if unit not in held:
                return at
        return len(units)

    def add(self, units: Sequence[int]) -> None:
        """Note a prompt; its start is the youngest, so that a prefix outlives what hangs on it."""
        held = self._units
        for unit in reversed(units):
            held[unit] = None
            held.move_to_end(unit)
        if self._capacity is not None:
            self.shrink(self._capacity)

    def shrink(self, capacity: int) -> None:
        """Drop the oldest units beyond `capacity`."""
        while len(self._units) > capacity:
            self._units.popitem(last=False)
