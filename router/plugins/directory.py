"""What is in the plugin directory now. Files are compared by content, not by time: a mounted ConfigMap is a set of
symlinks through `..data`, which is swapped as one, and its files may keep their times.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final, NamedTuple

MAX_BYTES: Final = 1 << 20
"""Largest file that is read; a policy is a page or two."""


class DirectoryListing(NamedTuple):
    """The directory at one moment."""

    sources: dict[str, bytes]
    """Content by file name."""
    unreadable: dict[str, str]
    """Reason by file name."""
    problem: str = ""
    """Why the directory cannot be read; empty if it can."""


def list_plugins(directory: str) -> DirectoryListing:
    """Every `*.py` that is no dotfile. Never raises; a file that disappears meanwhile is left out."""
    found = DirectoryListing({}, {})
    try:
        names = sorted(name for name in os.listdir(directory) if name.endswith(".py") and not name.startswith("."))
    except OSError as error:
        return found._replace(problem=f"{directory} cannot be read: {error.strerror}")
    for name in names:
        _read(Path(directory, name), found)
    return found


def _read(path: Path, found: DirectoryListing) -> None:
    try:
        with path.open("rb") as file:
            source = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        return
    except OSError as error:
        found.unreadable[path.name] = f"cannot be read: {error.strerror}"
        return
    if len(source) > MAX_BYTES:
        found.unreadable[path.name] = f"is larger than {MAX_BYTES >> 20} MB"
    else:
        found.sources[path.name] = source
