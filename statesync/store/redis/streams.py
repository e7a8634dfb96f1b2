"""The logs of streams in Redis: a string each, written at offsets, so that a write which is repeated does no harm."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, cast

from statesync.errors import StoreUnavailable
from statesync.store.redis.commands import Part
from statesync.store.redis.connection import ReplyError, RespConnection
from statesync.store.redis.keys import STREAM_TTL_S, RedisKeys
from statesync.store.redis.scripts import READ_STREAMS, SAVE_STREAMS, TAKE_STREAM, LuaScript
from statesync.streams import OWNER_BYTES, StreamLines, StreamPart

MOST_READ: Final = 8192
"""Bytes of a log that are read at once: they make 0.3 MB of events."""

_FOLLOWED_MS: Final = 5000


class SharedStreams:
    """A `StreamStore` in Redis."""

    def __init__(self, keys: RedisKeys, lease_s: float, link: Callable[[], RespConnection]) -> None:
        """`link` gives the connection, or raises StoreUnavailable."""
        self._keys = keys
        self._lease_ms = int(lease_s * 1000)
        self._link = link
        self._before = keys.stream("").encode()
        self._prefixes = (keys.keeper(""), keys.followed(""))

    async def save(self, owner: str, entries: Sequence[StreamLines], /) -> Sequence[int]:
        """See `StreamStore`."""
        parts = [b"%d" % len(entries)]
        parts += [self._before + entry.name.encode() for entry in entries]
        parts += (owner.encode(), b"%d" % OWNER_BYTES)
        for entry in entries:
            parts += (b"%d" % entry.offset, b"%d" % int(entry.ttl_s * 1000), entry.lines)
        try:
            results = await SAVE_STREAMS.run_packed(self._link(), parts)
        except ReplyError as error:
            raise _refused(error) from error
        return cast("list[int]", results)

    async def read(self, places: Sequence[tuple[str, int]], /) -> Sequence[StreamPart]:
        """See `StreamStore`."""
        names = tuple([self._keys.stream(name) for name, _ in places])
        offsets = [offset for _, offset in places]
        found = await self._run(READ_STREAMS, names, OWNER_BYTES, *self._prefixes, _FOLLOWED_MS, MOST_READ, *offsets)
        return [
            StreamPart(owner.decode("latin-1"), alive == 1, lines)
            for owner, alive, lines in zip(found[::3], found[1::3], found[2::3], strict=True)
        ]

    async def take(self, name: str, before: str, after: str, offset: int, /) -> bytes | None:
        """See `StreamStore`."""
        ttl_ms = int(STREAM_TTL_S * 1000)
        rest = await self._run(TAKE_STREAM, (self._keys.stream(name),), before, after, ttl_ms, offset)
        return rest if isinstance(rest, bytes) else None

    async def beat(self, owner: str, /) -> Sequence[str]:
        """See `StreamStore`."""
        keeper, followed = self._keys.keeper(owner), self._keys.followed(owner)
        commands: list[tuple[Part, ...]] = [
            ("SET", keeper, 1, "PX", self._lease_ms),
            ("SMEMBERS", followed),
            ("DEL", followed),
        ]
        names = (await self._link().pipeline(commands))[1]
        before = len(self._keys.stream(""))
        return [name.decode()[before:] for name in names] if isinstance(names, list | set) else []

    async def _run(self, script: LuaScript, names: tuple[str, ...], *args: Part) -> Any:
        try:
            return await script.run(self._link(), names, *args)
        except ReplyError as error:
            raise _refused(error) from error


def _refused(error: ReplyError) -> StoreUnavailable:
    return StoreUnavailable(f"the shared state does not take streams: {error}")
