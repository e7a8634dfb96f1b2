"""Answers that take milliseconds of the event loop to make, such as the metrics of a thousand pods: made one at a time,
with a rest after each, and shared by all who asked before it was begun. Knows no route.

However many ask, the data plane keeps most of the loop, and none of them waits for more than two answers.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final, Generic, TypeVar

_T = TypeVar("_T")

REST: Final = 3.0
"""Seconds of rest after each second in which an answer was made."""

MOST_REST_S: Final = 1.0
"""On a busy loop an answer takes longer than its own work."""


class SharedAnswers(Generic[_T]):
    """Answers by what was asked for."""

    def __init__(self, clock: Callable[[], float], sleep: Callable[[float], Awaitable[None]] = asyncio.sleep) -> None:
        """`clock` is in seconds, monotonic."""
        self._clock = clock
        self._sleep = sleep
        self._turn = asyncio.Lock()
        self._rested_at = 0.0
        self._coming: dict[str, asyncio.Task[_T]] = {}
        """Answers that are not begun."""

    async def get(self, asked: str, make: Callable[[], Awaitable[_T]]) -> _T:
        """An answer that is begun after this call. Raises what `make` raises."""
        coming = self._coming.get(asked)
        if coming is None:
            coming = self._coming[asked] = asyncio.get_running_loop().create_task(self._made(asked, make))
        # A client that leaves takes nothing from the others.
        return await asyncio.shield(coming)

    async def _made(self, asked: str, make: Callable[[], Awaitable[_T]]) -> _T:
        async with self._turn:
            await self._sleep(max(0.0, self._rested_at - self._clock()))
            del self._coming[asked]
            began = self._clock()
            try:
                return await make()
            finally:
                ended = self._clock()
                self._rested_at = ended + min(MOST_REST_S, REST * (ended - began))
