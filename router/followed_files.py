"""Files that are read again when one of them changes, such as keys, certificates or a mounted Secret. They are looked
at beside the requests and read in a thread; what cannot be used leaves what was read before in place.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any, Final, Generic, TypeVar

from statesync.engines.file_stamp import FileStamp, stamp_of

POLL_S: Final = 0.25
"""Seconds between two looks at files: a revocation is in force half a second after it is written, at most."""

SETTLE_S: Final = 0.1
"""Seconds in which a changed file must stay as it is: one that is written in place is half there before it is whole."""

T = TypeVar("T")
_log = logging.getLogger("turnout.files")


class FollowedFiles(Generic[T]):
    """Reads files that belong together whenever one of them changes."""

    def __init__(
        self,
        paths: Sequence[str],
        read: Callable[[], T],
        use: Callable[[T], None],
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        *,
        keep: Callable[[Exception], None] | None = None,
    ) -> None:
        """Reads them now. `read` makes of the files what `use` takes. It raises for what cannot be used; `keep`, if
        given, takes that error later on, else the log has it. Raises what `read` raises."""
        self._paths = paths
        self._read = read
        self._use = use
        self._sleep = sleep
        self._keep = keep or self._log
        self._seen = self._stamp()
        self._due = False
        use(read())

    def again(self) -> None:
        """Read the files at the next look, though they seem to be the same."""
        self._due = True

    async def run(self) -> None:
        """Look every `POLL_S`."""
        while True:
            await self._sleep(POLL_S)
            await self.look()

    async def look(self) -> None:
        """Read the files if one is another than before."""
        stamp = self._stamp()
        if stamp == self._seen and not self._due:
            return
        await self._sleep(SETTLE_S)
        if self._stamp() != stamp:
            return  # they are being replaced: the next look reads them whole
        self._due = False
        self._seen = stamp
        try:
            content = await asyncio.to_thread(self._read)
        except Exception as error:  # noqa: BLE001  a parser's defect, too: it must not end the look at these files
            self._keep(error)
        else:
            self._use(content)
            _log.info("%s: read again", ", ".join(filter(None, self._paths)))

    def _stamp(self) -> Sequence[FileStamp]:
        return [stamp_of(path) for path in self._paths]

    def _log(self, error: Exception) -> None:
        """Log once that the files cannot be used."""
        why = str(error) if isinstance(error, ValueError) else f"{type(error).__name__}: {error}"
        if isinstance(error, OSError):
            why = error.strerror or str(error)
        paths = ", ".join(self._paths)
        _log.warning("%s: what was read before stays in force, because it cannot be used: %s", paths, why)


async def follow(each: Iterable[FollowedFiles[Any]]) -> None:
    """Follow all of these files, for ever."""
    await asyncio.gather(*[files.run() for files in each])
