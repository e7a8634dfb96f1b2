"""Whether what a pool's engines evict is needed again, so that their memory is too small for its traffic. Pure.

Then it does no good to know exactly what is held: conversations that lost their blocks go to whichever pod is free,
where they evict others', which move in turn. The learned index keeps them where they were.
"""

from __future__ import annotations

from typing import Final

from statesync.kv_events.holders import Holders

MOST: Final = 1 << 15
"""Evicted blocks that are remembered."""

WINDOW: Final = 1 / 8
"""The average is over about as many evictions as are this share of the pool's blocks."""

FEWEST: Final = 128
"""Evictions of the shortest average, and before which nothing is said."""

MISSED: Final = 0.2
"""Share of evicted blocks that are needed again from which on memory is too small."""

FADE: Final = 0.5
"""Fraction by which that share falls while a cache's worth is evicted of which nothing is needed. A rise counts at
once: a pool computes the same conversations again in waves."""

_LOOK: Final = 64
"""Evictions between two looks at how many blocks there are: 10 us each."""


class Evictions:
    """Of one pool."""

    def __init__(self, holders: Holders) -> None:
        self._holders = holders
        self._gone: dict[int, None] = {}
        """Keys of evicted blocks; oldest first."""
        self._every = 1
        """Only keys that this number divides are counted. It doubles until the sample of a cache's worth fits."""
        self._weight = 1 / FEWEST
        self._count = 0
        self._needed = self._peak = 0.0
        """Share of the evicted blocks that are needed again: a moving average, and how high it was."""

    @property
    def missed(self) -> bool:
        """Whether many of the evicted blocks are needed again."""
        return self._peak > MISSED

    def evicted(self, key: int) -> None:
        """The last copy of a block is gone."""
        if key % self._every:
            return
        self._gone[key] = None
        if not self._count % _LOOK:
            self._look()
        self._count += 1
        self._needed -= self._needed * self._weight
        if self._count >= FEWEST:
            self._peak = max(self._needed, self._peak * (1.0 - self._weight * WINDOW * FADE))

    def stored(self, key: int) -> None:
        """A block was computed of which there was no copy."""
        if self._gone and key in self._gone:
            del self._gone[key]
            self._needed += self._weight

    def _look(self) -> None:
        """Fit the sample and the average to the number of blocks."""
        held = len(self._holders)
        while held > MOST * self._every:
            self._every *= 2
            self._gone = {key: None for key in self._gone if not key % self._every}
        while len(self._gone) > MOST:
            del self._gone[next(iter(self._gone))]
        self._weight = 1.0 / max(FEWEST, held / self._every * WINDOW)
