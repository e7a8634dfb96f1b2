"""What is in the plugin directory now. Files are compared by content, not by time: a mounted ConfigMap is a set of
symlinks through `..data`, which is swapped as one, and its files may keep their times.

A plugin runs with the gateway's rights, so only root and the gateway's own user may be able to write it, unless it is
on a file system that is mounted read-only, as ConfigMaps are. Only regular files are opened: a FIFO would be waited
for, and opening a device may do anything.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Final, NamedTuple

MAX_BYTES: Final = 1 << 20
"""Largest file that is read; a policy is a page or two."""

MAX_FILES: Final = 200
"""Most files in a directory."""

_KINDS: Final = (
    (stat.S_ISFIFO, "a FIFO"),
    (stat.S_ISDIR, "a directory"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


class DirectoryListing(NamedTuple):
    """The directory at one moment."""

    sources: dict[str, bytes]
    """Content by file name."""
    unreadable: dict[str, str]
    """Reason by file name."""
    problem: str = ""
    """Why the directory cannot be read; empty if it can."""


class PluginUnreadable(Exception):
    """A file that is not read as a plugin; the message says why, and completes a sentence about the file."""


def list_plugins(directory: str) -> DirectoryListing:
    """Every `*.py` that is no dotfile. Never raises; a file that disappears meanwhile is left out."""
    found = DirectoryListing({}, {})
    try:
        names = sorted(name for name in os.listdir(directory) if name.endswith(".py") and not name.startswith("."))
        writer = _other_writer(directory, os.stat(directory))
    except OSError as error:
        return found._replace(problem=f"{directory} cannot be read: {error.strerror}")
    if writer:
        return found._replace(problem=f"{directory} is not read: {writer}")
    if len(names) > MAX_FILES:
        return found._replace(problem=f"{directory} is not read: it has {len(names)} files, more than {MAX_FILES}")
    for name in names:
        _list(Path(directory, name), found)
    return found


def read_plugin(path: Path) -> bytes:
    """The content of one file, without waiting for anything. Raises PluginUnreadable, FileNotFoundError."""
    try:
        _regular(os.stat(path))  # opening a device may already do something
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with open(descriptor, "rb") as file:
            _regular(os.fstat(descriptor))
            source = file.read(MAX_BYTES + 1) or b""
    except FileNotFoundError:
        raise
    except OSError as error:
        raise PluginUnreadable(f"cannot be read: {error.strerror}") from None
    if len(source) > MAX_BYTES:
        raise PluginUnreadable(f"is larger than {MAX_BYTES >> 20} MB")
    return source


def _list(path: Path, found: DirectoryListing) -> None:
    try:
        # Of a link also where it leads to: in that directory the file could be replaced.
        real = path.resolve()
        for place in (real.parent, real):
            if writer := _other_writer(str(place), os.stat(place)):
                raise PluginUnreadable(f"is not read, because of {place}: {writer}")
        found.sources[path.name] = read_plugin(path)
    except FileNotFoundError:
        return
    except PluginUnreadable as error:
        found.unreadable[path.name] = str(error)
    except (OSError, RuntimeError) as error:  # the latter for a loop of links
        found.unreadable[path.name] = f"cannot be read: {getattr(error, 'strerror', None) or 'a loop of links'}"


def _regular(status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        kind = next((name for test, name in _KINDS if test(status.st_mode)), "no file")
        raise PluginUnreadable(f"is not read: it is {kind}, not a regular file")


def _other_writer(path: str, status: os.stat_result) -> str:
    """Who besides root and this process's user may write there, and what to do about it; empty if none may."""
    if status.st_uid not in (0, os.geteuid()):
        who, remedy = f"its owner, user {status.st_uid},", f"chown {os.geteuid()}"
    elif status.st_mode & stat.S_IWOTH:
        who, remedy = "every user", "chmod o-w"
    elif status.st_mode & stat.S_IWGRP and status.st_gid not in (0, os.getegid()):
        who, remedy = f"group {status.st_gid}", "chmod g-w"
    else:
        return ""
    if os.statvfs(path).f_flag & os.ST_RDONLY:
        return ""
    return f"{who} may write to it, and a plugin has all the gateway's rights ({remedy}, or mount it read-only)"
