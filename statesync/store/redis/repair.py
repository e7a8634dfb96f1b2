"""Deletes keys whose content no replica can have written: another type than `keys.py` names, or a full log. Their
content comes back: every replica sends its own numbers again, and the others read them. Here is also what has to be
read again soon: each thing once, however often it is asked for.

Knows no message and no listener.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine
from functools import partial
from typing import Any, Final

from statesync.store.redis.connection import ReplyError, RespConnection
from statesync.store.redis.keys import RedisKeys
from statesync.store.redis.scripts import REPAIR

MEND_S: Final = 0.2
"""Least seconds between two repairs, if something writes into the keys again and again."""

VAIN: Final = 3
"""Failures in a row after which the link is given up: flushes without anything to repair, repairs without effect."""

_DAMAGE: Final = ("WRONGTYPE", "exhausted the last possible ID", "smaller than the target stream top item")
"""Parts of the errors that a command gives for such a key. Redis 6 puts them into an error of the script."""

Read = Callable[[RespConnection], Awaitable[object]]

_log = logging.getLogger("turnout.state")


def is_damage(error: ReplyError) -> bool:
    """Whether a command failed at the content of a key, and not at the server's state."""
    return any(part in str(error) for part in _DAMAGE)


class KeyRepair:
    """Repairs the keys of one replica's namespace."""

    def __init__(self, replica: str, keys: RedisKeys) -> None:
        self._types: Final = {
            keys.leases: "zset",
            keys.tokens: "hash",
            keys.inflight(replica): "hash",
            keys.pods(replica): "hash",
            keys.reports: "hash",
            keys.log: "stream",
            keys.checkpoint: "hash",
            keys.lock: "string",
            keys.pools: "set",
            keys.epoch: "string",
        }
        self.repaired = 0
        """Counter: keys deleted."""
        self._mended_at = float("-inf")
        self._vain = 0

    async def run(self, link: RespConnection) -> bool:
        """Delete what is damaged; returns whether anything was. Raises StateError."""
        gone = await REPAIR.run(link, tuple(self._types), *self._types.values())
        self.repaired += len(gone)
        if gone:
            names = ", ".join(key.decode("utf-8", "replace") for key in gone)
            _log.warning("the shared state held something else under %s: deleted, and written again", names)
        return bool(gone)

    async def around(self, link: RespConnection, work: Callable[[], Awaitable[object]]) -> None:
        """Repair the keys, then run `work`; again if it met a key that was damaged meanwhile. Raises StateError."""
        for left in reversed(range(VAIN)):
            await self.run(link)
            try:
                await work()
            except ReplyError as error:
                if not left or not is_damage(error):
                    raise
            else:
                return

    async def mend(self, link: RespConnection) -> bool:
        """`run` after a flush that failed, `MEND_S` after the last time at the earliest. False if again and again there
        was nothing to repair: not once, since another replica may have been first."""
        loop = asyncio.get_running_loop()
        await asyncio.sleep(max(0.0, self._mended_at + MEND_S - loop.time()))
        self._mended_at = loop.time()
        self._vain = 0 if await self.run(link) else self._vain + 1
        return self._vain < VAIN

    def __repr__(self) -> str:
        return f"<KeyRepair of {len(self._types)} keys: {self.repaired} repaired>"


class Rereads:
    """Reads in the background, after a repair of the keys."""

    def __init__(self, repair: KeyRepair, do: Callable[[Coroutine[Any, Any, None]], None]) -> None:
        """`do` runs the work of an incarnation, which ends with it."""
        self._repair = repair
        self._do = do
        self._waiting: set[tuple[str, str]] = set()

    def soon(self, link: RespConnection | None, kind: str, name: str, read: Read) -> None:
        """Read over this link; without one, all is read when there is one again."""
        if link is not None and (kind, name) not in self._waiting:
            self._waiting.add((kind, name))
            self._do(self._run(link, (kind, name), read))

    def clear(self) -> None:
        """The incarnation is over."""
        self._waiting.clear()

    async def _run(self, link: RespConnection, what: tuple[str, str], read: Read) -> None:
        self._waiting.discard(what)
        await self._repair.around(link, partial(read, link))
