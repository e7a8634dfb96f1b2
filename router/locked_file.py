"""A file that one process at a time writes, though others may put another file in its place. Knows no content."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from typing import Final

PRIVATE: Final = 0o600
"""The mode of a new file: what is in keys, records and audit logs is not for everyone to see."""


@contextlib.contextmanager
def locked(path: str | os.PathLike[str], flags: int) -> Iterator[int]:
    """The open file, made if it is not there, with a lock that lasts until the end. Another writer may have put a new
    file in its place while this one waited: then the lock is on a file that no path leads to, and the new one is
    opened. Raises OSError."""
    while True:
        descriptor = os.open(path, flags | os.O_CREAT | os.O_CLOEXEC, PRIVATE)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            if _is_at(path, descriptor):
                yield descriptor
                return
        finally:
            os.close(descriptor)


def _is_at(path: str | os.PathLike[str], descriptor: int) -> bool:
    try:
        return os.path.samestat(os.stat(path), os.fstat(descriptor))
    except FileNotFoundError:
        return False
