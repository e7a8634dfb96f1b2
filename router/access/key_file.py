"""The file of keys as `turnout keys` changes it: one writer at a time, and readers see the old file or the new one.
Knows nothing of what is in it.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
from collections.abc import Callable, Iterator
from typing import Final

PRIVATE: Final = 0o600
"""The mode of a new file. Hashes are no secrets, but who may use the gateway is not for everyone to see."""


def change_file(path: str, change: Callable[[bytes], bytes]) -> None:
    """Replace the file's content by what `change` makes of it; a file that is not there is made, from nothing. Raises
    OSError, and what `change` raises: then the file stays as it was."""
    path = os.path.realpath(path)  # of a link the file behind it is replaced
    with _locked(path) as descriptor:
        with open(descriptor, "rb", closefd=False) as file:
            before = file.read()
        _replace(path, change(before), os.fstat(descriptor))


@contextlib.contextmanager
def _locked(path: str) -> Iterator[int]:
    """The open file, with a lock that lasts until the end. Another writer may have put a new file in its place while
    this one waited: then the lock is on a file that no path leads to, and the new one is opened."""
    while True:
        descriptor = os.open(path, os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC, PRIVATE)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            if _is_at(path, descriptor):
                yield descriptor
                return
        finally:
            os.close(descriptor)


def _is_at(path: str, descriptor: int) -> bool:
    try:
        return os.path.samestat(os.stat(path), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def _replace(path: str, content: bytes, before: os.stat_result) -> None:
    """Put a new file in the place of the one that was opened, with its owner and mode."""
    temporary = f"{path}.{secrets.token_hex(4)}"
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, PRIVATE)
    try:
        with open(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fchmod(file.fileno(), before.st_mode & 0o640)
            if (before.st_uid, before.st_gid) != (os.geteuid(), os.getegid()):
                os.fchown(file.fileno(), before.st_uid, before.st_gid)
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise
    _sync(os.path.dirname(path))


def _sync(directory: str) -> None:
    """Make the new name last: a crash must not bring a revoked key back."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
