"""The prefix index in Redis: written by one replica now and then, read by replicas that start. In steps of a few
milliseconds, as the same event loop carries requests.

A checkpoint is written under a new name. A single key, switched when the checkpoint is complete, holds the current name
and the position in the log where it begins. The content of the pages is the listener's.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

from statesync.errors import StateError
from statesync.store.redis.commands import Part
from statesync.store.redis.connection import RespConnection
from statesync.store.redis.keys import LOCK_TTL_S, LOG_TTL_S, RedisKeys
from statesync.store.redis.messages import pack_page
from statesync.store.redis.placement_log import START, LogId, format_id, parse_id
from statesync.store.redis.receiver import UpdateReceiver
from statesync.store.redis.scripts import BEGIN_CHECKPOINT, SWITCH_CHECKPOINT
from statesync.types import PrefixPage

SLICE_S: Final = 0.003
"""Seconds after which the loop gets a turn; a page is not interrupted."""

BATCH_BYTES: Final = 262_144
"""Bytes of pages after which they are sent."""

PAGES: Final = 16
"""Pages read at a time."""

ENTRIES: Final = 500
"""Entries of the log read at a time."""

_log = logging.getLogger("turnout.state")


class Checkpoints:
    """Writes and reads the checkpoints of one namespace, and the log behind them."""

    def __init__(self, keys: RedisKeys, receiver: UpdateReceiver) -> None:
        self._keys = keys
        self._reader = receiver.reader
        self._log = receiver.log
        self._entry = receiver.entry
        self._restored = receiver.restored
        self._loop = asyncio.get_running_loop()
        self._read_once = False

    async def position(self, link: RespConnection) -> tuple[str, LogId | None]:
        """The current checkpoint's name, and the position in the log where it begins; ("", None) if there is none, or
        one that begins behind the end of the log: the log was lost, or the position is no replica's."""
        (name, log_id), last = await _both(
            link,
            ("HMGET", self._keys.checkpoint, "name", "log_id"),
            ("XREVRANGE", self._keys.log, "+", "-", "COUNT", 1),
        )
        begins = parse_id(log_id.decode("ascii", "replace")) if name and log_id else None
        if begins is None or begins > _end_of(last):
            return "", None
        return name.decode("utf-8", "replace"), begins

    async def write(
        self, link: RespConnection, pages: Callable[[], Iterable[PrefixPage]], name: str, every_s: float
    ) -> bool:
        """Write a checkpoint as `name`, which is new, unless another replica writes one or did within `every_s`. Raises
        StateError."""
        keys, began, at = self._keys, self._loop.time(), self._log.folded
        lock_ms, recent_ms = int(LOCK_TTL_S * 1000), int(every_s * 1000)
        if not await BEGIN_CHECKPOINT.run(link, (keys.checkpoint, keys.lock), name, lock_ms, recent_ms):
            return False
        count, size = await self._push_pages(link, pages(), keys.pages(name))
        switched = await SWITCH_CHECKPOINT.run(
            link,
            (keys.checkpoint, keys.lock, keys.log, keys.pages(name)),
            *(name, name, format_id(at), keys.pages(""), int(LOG_TTL_S * 1000)),
        )
        took_s = self._loop.time() - began
        if switched:
            _log.info("wrote a checkpoint of the prefix index: %d pages, %.1f MB in %.2f s", count, size / 1e6, took_s)
        else:
            _log.warning("gave up a checkpoint of the prefix index after %.2f s: it took too long", took_s)
        return bool(switched)

    async def _push_pages(self, link: RespConnection, pages: Iterable[PrefixPage], key: str) -> tuple[int, int]:
        count = size = pending = 0
        batch: list[Part] = []
        until = self._loop.time() + SLICE_S
        for page in pages:
            packed = pack_page(page)
            batch.append(packed)
            count, size, pending = count + 1, size + len(packed), pending + len(packed)
            if pending >= BATCH_BYTES or self._loop.time() >= until:
                await self._push(link, key, batch)
                batch, pending, until = [], 0, self._loop.time() + SLICE_S
        if batch:
            await self._push(link, key, batch)
        return count, size

    async def _push(self, link: RespConnection, key: str, batch: list[Part]) -> None:
        for reply in await link.pipeline([("RPUSH", key, *batch), ("PEXPIRE", key, int(LOCK_TTL_S * 1000))]):
            if isinstance(reply, StateError):
                raise reply

    async def catch_up(self, link: RespConnection) -> None:
        """Read the checkpoint, if the log does not reach back far enough, then the log to its end.

        Raises StateError.
        """
        last = await link.call("XREVRANGE", self._keys.log, "+", "-", "COUNT", 1)
        self._log.server_ends_at(_end_of(last))
        name, begins = await self.position(link)
        needed = begins is not None and (not self._read_once or self._log.folded < begins)
        while True:
            if needed and begins is not None:
                await self._read_pages(link, self._keys.pages(name))
                self._log.restored(begins)
            await self._read_log(link)
            read, (name, begins) = name, await self.position(link)
            if name == read:
                break
            needed = True  # it was switched while it was being read, which deletes pages and entries
        self._read_once = True
        self._log.caught_up()

    async def _read_pages(self, link: RespConnection, key: str) -> None:
        at, began, blocks = 0, self._loop.time(), 0
        while packed := await link.call("LRANGE", key, at, at + PAGES - 1):
            at += len(packed)
            until = self._loop.time() + SLICE_S
            for data in packed:
                page = self._reader.page(data)
                if page is not None:
                    blocks += len(page.hashes) // 8
                    self._restored(page)
                until = await self._breathe(until)
        _log.info("read a checkpoint of %d blocks in %.2f s", blocks, self._loop.time() - began)

    async def _read_log(self, link: RespConnection) -> None:
        more, after = True, format_id(self._log.folded)
        while more:
            entries = await link.call("XRANGE", self._keys.log, f"({after}", "+", "COUNT", ENTRIES)
            until = self._loop.time() + SLICE_S
            for log_id, fields in entries:
                self._entry(log_id, dict(zip(fields[::2], fields[1::2], strict=True)).get(b"b", b""))
                until = await self._breathe(until)
                after = log_id.decode("ascii", "replace")
            more = len(entries) == ENTRIES

    async def _breathe(self, until: float) -> float:
        """Give the loop a turn once the slice is over; returns the end of the current slice."""
        if self._loop.time() < until:
            return until
        await asyncio.sleep(0)
        return self._loop.time() + SLICE_S


def _end_of(last: Sequence[Any]) -> LogId:
    """The id of the log's last entry, as XREVRANGE gives it; `START` if there is none."""
    return parse_id(last[0][0].decode("ascii", "replace")) if last else START


async def _both(link: RespConnection, *commands: tuple[Part, ...]) -> list[Any]:
    """Replies to all of them, in one round trip. Raises the first error."""
    replies = await link.pipeline(commands)
    for reply in replies:
        if isinstance(reply, StateError):
            raise reply
    return replies
