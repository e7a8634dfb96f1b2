"""The logs of streams in memory, with the rules of those in Redis (`statesync/store/redis/streams.py`), so that a test
can look at them, lose them, and run what waits for them without a loop."""

from __future__ import annotations

from collections.abc import Coroutine, Sequence
from typing import Any, TypeVar

from statesync.errors import StoreUnavailable
from statesync.streams import GONE, OWNER_BYTES, SAVED, TAKEN, StreamLines, StreamPart

T = TypeVar("T")


class MemoryStreams:
    """A `StreamStore` that several keepers share."""

    def __init__(self) -> None:
        self.logs: dict[str, bytes] = {}
        self.alive: set[str] = set()
        self.followed: dict[str, set[str]] = {}
        self.away = False
        self.saves = 0

    def _check(self) -> None:
        if self.away:
            raise StoreUnavailable("away")

    async def save(self, owner: str, entries: Sequence[StreamLines], /) -> Sequence[int]:
        """See `StreamStore`."""
        self._check()
        self.saves += 1
        return [self._save(owner, entry) for entry in entries]

    def _save(self, owner: str, entry: StreamLines) -> int:
        there = self.logs.get(entry.name, b"")
        if len(there) < entry.offset or (entry.offset and not there):
            return GONE
        if there and there[:OWNER_BYTES].decode() != owner:
            return TAKEN
        self.logs[entry.name] = there[: entry.offset] + entry.lines + there[entry.offset + len(entry.lines) :]
        return SAVED

    async def read(self, places: Sequence[tuple[str, int]], /) -> Sequence[StreamPart]:
        """See `StreamStore`."""
        self._check()
        parts = []
        for name, offset in places:
            log = self.logs.get(name, b"")
            owner = log[:OWNER_BYTES].decode()
            if owner in self.alive:
                self.followed.setdefault(owner, set()).add(name)
            parts.append(StreamPart(owner, owner in self.alive, log[offset : offset + 8192]))
        return parts

    async def take(self, name: str, before: str, after: str, offset: int, /) -> bytes | None:
        """See `StreamStore`."""
        self._check()
        log = self.logs.get(name, b"")
        if not log or log[:OWNER_BYTES].decode() != before:
            return None
        self.logs[name] = after.encode() + log[OWNER_BYTES:]
        return log[offset:]

    async def beat(self, owner: str, /) -> Sequence[str]:
        """See `StreamStore`."""
        self._check()
        self.alive.add(owner)
        return sorted(self.followed.pop(owner, ()))


def run_now(work: Coroutine[Any, Any, T]) -> T:
    """The result of a coroutine that waits for nothing real."""
    try:
        work.send(None)
    except StopIteration as end:
        result: T = end.value
        return result
    work.close()
    raise AssertionError("it waits")
