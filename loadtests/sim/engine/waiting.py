"""The engine's queue: requests in the order in which they are admitted. It knows no blocks and no time.

By priority it is vLLM's `--scheduling-policy priority`: a lower number goes first, equal ones in order of arrival.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection
from itertools import chain

from loadtests.sim.engine.types import Live, RequestId


class WaitingQueue:
    """First come, first served, within a level of priority."""

    def __init__(self, *, by_priority: bool = False) -> None:
        """Without `by_priority` all requests are on one level."""
        self._by_priority = by_priority
        self._levels: dict[int, OrderedDict[RequestId, Live]] = {}
        self._level_of: dict[RequestId, int] = {}

    def __len__(self) -> int:
        return len(self._level_of)

    def __contains__(self, request_id: RequestId) -> bool:
        return request_id in self._level_of

    def values(self) -> Collection[Live]:
        """All of them, in order."""
        levels = self._levels
        if len(levels) == 1:
            return next(iter(levels.values())).values()
        return list(chain.from_iterable(levels[level].values() for level in sorted(levels)))

    def head(self) -> Live:
        """The next to be admitted; there is one."""
        levels = self._levels
        return next(iter(levels[min(levels)].values()))

    def add(self, live: Live) -> None:
        """Queue a request behind the others of its level."""
        self._join(live)

    def put_back(self, live: Live) -> None:
        """Queue a preempted request before the others of its level: it was admitted before them."""
        self._join(live).move_to_end(live.request.id, last=False)

    def _join(self, live: Live) -> OrderedDict[RequestId, Live]:
        level = live.request.priority if self._by_priority else 0
        queue = self._levels.setdefault(level, OrderedDict())
        self._level_of[live.request.id] = level
        queue[live.request.id] = live
        return queue

    def pop(self, request_id: RequestId) -> Live | None:
        """Take a request out; None if it does not wait."""
        level = self._level_of.pop(request_id, None)
        if level is None:
            return None
        queue = self._levels[level]
        live = queue.pop(request_id)
        if not queue:
            del self._levels[level]
        return live
