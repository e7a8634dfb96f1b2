"""An engine's KV cache as counts: private blocks, shared units under reference counts, idle units in LRU order.

A unit is the piece of a prompt that one chained hash id stands for: one block, or several (traces hash 512 tokens
at a time). Blocks have no addresses here, because nothing a router can see depends on them. Two requests that
compute the same unit at the same time share it as soon as it is done, where vLLM would keep two copies for a while.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import Protocol


class KvWatcher(Protocol):
    """Learns what the cache stores and evicts."""

    def stored(self, ids: Sequence[int], parent: int | None, /) -> None:
        """Units that follow `parent`, or begin a prompt, can be found from now on."""

    def removed(self, unit: int, /) -> None:
        """A unit was evicted."""


class KvBlocks:
    """The blocks of one engine. Callers ask `available` before they `reserve`; otherwise it raises."""

    def __init__(self, capacity: int, unit_blocks: int = 1) -> None:
        """`capacity` in blocks; `unit_blocks` is how many blocks one hash id stands for."""
        self.capacity = capacity
        self.unit_blocks = unit_blocks
        self.private = 0
        """Blocks that belong to one request and carry no hash."""
        self._refs: dict[int, int] = {}
        self._idle: OrderedDict[int, None] = OrderedDict()
        self.watcher: KvWatcher | None = None

    @property
    def used(self) -> int:
        """Blocks that requests hold; idle units are free for the taking and do not count."""
        return self.private + len(self._refs) * self.unit_blocks

    @property
    def available(self) -> int:
        """Blocks that can be reserved, by evicting idle units where needed."""
        return self.capacity - self.private - len(self._refs) * self.unit_blocks

    @property
    def idle_units(self) -> int:
        """Units that no request holds, kept for later requests."""
        return len(self._idle)

    def lookup(self, ids: Sequence[int], limit: int) -> tuple[int, int]:
        """Leading units of `ids[:limit]` that are held: how many, and how many of them are idle."""
        refs, idle = self._refs, self._idle
        hits = revived = 0
        for unit in ids[:limit]:
            if unit in refs:
                hits += 1
            elif unit in idle:
                hits += 1
                revived += 1
            else:
                break
        return hits, revived

    def take(self, ids: Sequence[int]) -> None:
        """Hold these units, which `lookup` has found."""
        refs, idle = self._refs, self._idle
        for unit in ids:
            if unit in refs:
                refs[unit] += 1
            else:
                del idle[unit]
                refs[unit] = 1

    def reserve(self, blocks: int) -> None:
        """Take private blocks, evicting the longest idle units. OverflowError when they are not `available`."""
        if blocks > self.available:
            raise OverflowError(f"{blocks} blocks asked for, {self.available} available")
        self.private += blocks
        excess = self.used + len(self._idle) * self.unit_blocks - self.capacity
        while excess > 0:
            evicted, _ = self._idle.popitem(last=False)
            if self.watcher is not None:
                self.watcher.removed(evicted)
            excess -= self.unit_blocks

    def publish(self, ids: Sequence[int], parent: int | None = None) -> None:
        """The caller's private blocks hold these units now, which follow `parent`: they become shared, held once more
        each."""
        refs = self._refs
        if self.watcher is not None:
            fresh = [unit for unit in ids if unit not in refs and unit not in self._idle]
            if fresh:
                at = ids.index(fresh[0])
                self.watcher.stored(fresh, ids[at - 1] if at else parent)
        for unit in ids:
            self._idle.pop(unit, None)
            refs[unit] = refs.get(unit, 0) + 1
        self.private -= len(ids) * self.unit_blocks

    def drop(self, ids: Sequence[int], private: int) -> None:
        """Release held units and private blocks; units without a holder become idle, the prompt's end first to go."""
        refs, idle = self._refs, self._idle
        for unit in reversed(ids):
            held = refs[unit] - 1
            if held:
                refs[unit] = held
            else:
                del refs[unit]
                idle[unit] = None
        self.private -= private
