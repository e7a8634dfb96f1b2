"""Files of lines that a thread writes: the recording and the audit log. Knows no format of a line and no gateway.

The event loop puts values into a queue and never waits for a disk. Where the disk cannot keep up, the newest values are
dropped and counted.
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
from collections import deque
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final, Generic, TypeVar

from router.locked_file import locked

_log = logging.getLogger("turnout.files")
_T = TypeVar("_T")

MAX_WAITING: Final = 100_000
"""Values that may wait for the disk."""


class LineWriter(Generic[_T]):
    """The queue of one file, and the thread that empties it."""

    def __init__(
        self,
        path: str,
        max_bytes: int,
        line: Callable[[_T], bytes],
        what: str,
        *,
        every_s: float | None = None,
        sync: bool = False,
    ) -> None:
        """`line` makes a value's line, in the thread; `what` names the values in warnings. Every `every_s` seconds the
        queue is written; None writes it at once. With `sync` lines are on the disk before the next are written."""
        self._path = Path(path)
        self._max_bytes = max_bytes
        self._line = line
        self._what = what
        self._every_s = every_s
        self._sync = sync
        self._waiting: deque[_T] = deque()
        self._dropped = 0
        self.lost = 0
        """Values that are not in the file and will not be."""
        self._wake = threading.Event()
        self._stopped = False
        self._thread = threading.Thread(target=self._run, name=what, daemon=True)

    def put(self, value: _T, /) -> None:
        """Keep a value until the next write. Called on the event loop."""
        if len(self._waiting) < MAX_WAITING:
            self._waiting.append(value)
        else:
            self._dropped += 1
        if self._every_s is None:
            self._wake.set()

    def start(self) -> None:
        """Start the thread that writes."""
        self._thread.start()

    def stop(self) -> None:
        """Write what is queued and end the thread. Blocks for at most one write."""
        self._stopped = True
        self._wake.set()
        if self._thread.ident is not None:
            self._thread.join()
        self.write()

    def _run(self) -> None:
        while not self._stopped:
            self._wake.wait(self._every_s)
            self._wake.clear()
            self.write()

    def write(self) -> None:
        """Write what is queued; values that cannot be written are lost, and their number is logged."""
        values = [self._waiting.popleft() for _ in range(len(self._waiting))]
        dropped, self._dropped = self._dropped, 0
        lines = [line for line in map(self._made, values) if line]
        if lines:
            try:
                append(self._path, lines, self._max_bytes, sync=self._sync)
            except OSError as error:
                self.lost += len(lines)
                _log.warning("%s: %d %s were not written: %s", self._path, len(lines), self._what, error)
        if dropped:
            self.lost += dropped
            _log.warning("%s: %d %s were not written: the disk did not keep up", self._path, dropped, self._what)

    def _made(self, value: _T) -> bytes:
        """The value's line; empty where none can be made of it, which must not end the thread."""
        try:
            return self._line(value)
        except Exception:  # noqa: BLE001  a value holds what clients sent
            self.lost += 1
            _log.exception("%s: one of the %s cannot be written", self._path, self._what)
            return b""


def append(path: Path, lines: Iterable[bytes], max_bytes: int, *, sync: bool = False) -> None:
    """Add lines to the file; at half of `max_bytes` it becomes `NAME.1`, replacing the one before. Raises OSError, and
    leaves no part of these lines then.

    Several processes may write to one file: each holds its lock meanwhile, and checks that the file still has this
    name. Only its owner may read it.
    """
    written = b"".join(lines)
    with locked(path, os.O_WRONLY | os.O_APPEND) as descriptor:
        _write_whole(descriptor, written)
        if sync:
            os.fsync(descriptor)
        if os.fstat(descriptor).st_size >= max_bytes // 2:
            os.replace(path, path.with_name(path.name + ".1"))


def _write_whole(descriptor: int, written: bytes) -> None:
    before = os.fstat(descriptor).st_size
    left = memoryview(written)
    try:
        while left:
            left = left[os.write(descriptor, left) :]
    except OSError:
        # On a full disk: the next line would continue half of one.
        with contextlib.suppress(OSError):
            os.ftruncate(descriptor, before)
        raise
