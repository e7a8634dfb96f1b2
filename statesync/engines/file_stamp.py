"""Follows files that are replaced while the gateway runs: certificates, keys. Reads what `stat` says and the text."""

from __future__ import annotations

import logging
import os
import re
from typing import Final

_log = logging.getLogger("turnout.files")

MAX_BYTES: Final = 65536
"""Most bytes of such a file."""

FileStamp = tuple[int, int, int, int]
"""What changes with a file, also with who may read it; zeros while it is away."""


def stamp_of(path: str) -> FileStamp:
    """The stamp of the file that this path leads to. Takes 1 us."""
    try:
        found = os.stat(path)
    except OSError:
        return (0, 0, 0, 0)
    return (found.st_mtime_ns, found.st_ctime_ns, found.st_size, found.st_ino)


class FollowedText:
    """The text of a small file, without blanks around it; the last one that could be read and used."""

    def __init__(self, path: str, usable: re.Pattern[str]) -> None:
        """`usable` matches every text that may be used. Raises OSError, and ValueError for a file with another."""
        self._path = path
        self._usable = usable
        self._stamp = stamp_of(path)
        self._text = read_text(path, usable)

    def text(self) -> str:
        """The text now."""
        stamp = stamp_of(self._path)
        if stamp != self._stamp:
            try:
                self._text, self._stamp = read_text(self._path, self._usable), stamp
            except OSError:
                pass  # it is being replaced: the next call looks again
            except ValueError as error:
                self._stamp = stamp  # read and logged once
                _log.warning("%s: the text read before is used on, for %s", self._path, error)
        return self._text


def read_text(path: str, usable: re.Pattern[str]) -> str:
    """The text of a small file, without blanks around it, if `usable` matches it. Raises OSError, and ValueError."""
    with open(path, "rb") as file:
        raw = file.read(MAX_BYTES + 1)
    if len(raw) > MAX_BYTES:
        raise ValueError(f"the file has more than {MAX_BYTES} bytes")
    try:
        text = raw.decode("utf-8").strip()
    except UnicodeDecodeError:
        raise ValueError("the file is not UTF-8 text") from None
    if not usable.fullmatch(text):
        raise ValueError(
            "the file has several lines or characters that cannot be sent" if text else "the file is empty"
        )
    return text
