"""A file that is read again when it changes, such as keys or a mounted Secret. It is looked at beside the requests and
read in a thread; what cannot be used leaves what was read before in place.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Final, Generic, TypeVar

from statesync.engines.file_stamp import FileStamp, stamp_of

POLL_S: Final = 0.25
"""Seconds between two looks at a file: a revocation is in force half a second after it is written, at most."""

SETTLE_S: Final = 0.1
"""Seconds in which a changed file must stay as it is: one that is written in place is half there before it is whole."""

T = TypeVar("T")
_log = logging.getLogger("turnout.keys")


class FollowedFile(Generic[T]):
    """Reads one file whenever it changes."""

    def __init__(
        self,
        path: str,
        read: Callable[[str], T],
        use: Callable[[T], None],
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """Reads it now. `read` makes of the file what `use` takes, and raises ValueError for what cannot be used.
        Raises what `read` raises."""
        self._path = path
        self._read = read
        self._use = use
        self._sleep = sleep
        self._seen = stamp_of(path)
        self._due = False
        use(read(path))

    def again(self) -> None:
        """Read the file at the next look, though it seems to be the same."""
        self._due = True

    async def run(self) -> None:
        """Look every `POLL_S`."""
        while True:
            await self._sleep(POLL_S)
            await self.look()

    async def look(self) -> None:
        """Read the file if it is another one than before."""
        stamp = stamp_of(self._path)
        if (stamp == self._seen and not self._due) or not await self._settled(stamp):
            return
        self._due = False
        try:
            content = await asyncio.to_thread(self._read, self._path)
        except OSError as error:
            self._keep(stamp, error.strerror or str(error))
        except ValueError as error:
            self._keep(stamp, str(error))
        except Exception as error:  # noqa: BLE001  a parser's defect: it must not end the look at this file and others
            self._keep(stamp, f"{type(error).__name__}: {error}")
        else:
            self._seen = stamp
            self._use(content)
            _log.info("%s was read again", self._path)

    async def _settled(self, stamp: FileStamp) -> bool:
        await self._sleep(SETTLE_S)
        return stamp_of(self._path) == stamp

    def _keep(self, stamp: FileStamp, why: str) -> None:
        """Log once that the file cannot be used."""
        self._seen = stamp
        _log.warning("%s: what was read before stays in force, because it cannot be used: %s", self._path, why)
