"""Follows files that are replaced while the gateway runs: certificates, keys. Reads what `stat` says and the text."""

from __future__ import annotations

import os
from pathlib import Path

FileStamp = tuple[int, int, int]
"""What changes with a file; zeros while it is away."""


def stamp_of(path: str) -> FileStamp:
    """The stamp of the file that this path leads to. Takes 1 us."""
    try:
        found = os.stat(path)
    except OSError:
        return (0, 0, 0)
    return (found.st_mtime_ns, found.st_size, found.st_ino)


class FollowedText:
    """The text of a small file, without blanks around it; the last one that could be read."""

    def __init__(self, path: str) -> None:
        """Raises OSError, and ValueError for a file that is empty or no text."""
        self._path = path
        self._stamp = stamp_of(path)
        self._text = _read(path)

    def text(self) -> str:
        """The text now."""
        stamp = stamp_of(self._path)
        if stamp != self._stamp:
            try:
                self._text, self._stamp = _read(self._path), stamp
            except (OSError, ValueError):
                return self._text  # it is being replaced: the next call looks again
        return self._text


def _read(path: str) -> str:
    text = Path(path).read_text(encoding="utf-8").strip()
    if not text:
        raise ValueError("the file is empty")
    return text
