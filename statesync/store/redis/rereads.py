"""What has to be read from the keys again soon: each thing once, however often it is asked for. Knows no key."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine
from functools import partial
from typing import Any

from statesync.store.redis.connection import RespConnection
from statesync.store.redis.repair import KeyRepair

Read = Callable[[RespConnection], Awaitable[object]]


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
