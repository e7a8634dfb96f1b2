"""The file of keys as `turnout keys` changes it: one writer at a time, and readers see the old file or the new one.
Knows nothing of what is in it.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable

from router.locked_file import PRIVATE, locked


def change_file(path: str, change: Callable[[bytes], bytes]) -> None:
    """Replace the file's content by what `change` makes of it; a file that is not there is made, from nothing. Raises
    OSError, and what `change` raises: then the file stays as it was."""
    path = os.path.realpath(path)  # of a link the file behind it is replaced
    with locked(path, os.O_RDONLY) as descriptor:
        with open(descriptor, "rb", closefd=False) as file:
            before = file.read()
        _replace(path, change(before), os.fstat(descriptor))


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
