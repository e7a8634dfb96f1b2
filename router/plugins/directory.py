"""What is in the plugin directory now. Content decides, not times: a mounted ConfigMap is a set of symlinks through
`..data`, which is swapped as one, and its files may keep the times that they had.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final, NamedTuple

MAX_BYTES: Final = 1 << 20
"""A policy is a page or two."""


class DirectoryListing(NamedTuple):
    """What was found at one look."""

    sources: dict[str, bytes]
    """Content by file name."""
    unreadable: dict[str, str]
    """Why not, by file name."""
    problem: str = ""
    """Why there is nothing to be found at all."""


def look(directory: str) -> DirectoryListing:
    """Every `*.py` that is no dotfile. Never raises; a file that goes while one looks was not there."""
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
