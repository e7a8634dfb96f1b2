"""What a roster wants done: frozen values, each carried out by the supervisor in a line or two."""

from __future__ import annotations

from typing import NamedTuple


class Start(NamedTuple):
    """Start a process for this worker on its slot's sockets."""

    worker: int
    slot: int


class Notify(NamedTuple):
    """Say a word to a worker."""

    worker: int
    word: str


class Kill(NamedTuple):
    """End a worker's process at once."""

    worker: int


class Park(NamedTuple):
    """Let the kernel send nobody to this slot until a worker listens on it again."""

    slot: int


class LogLine(NamedTuple):
    """A line for the log."""

    level: int
    words: str


class Exit(NamedTuple):
    """Nothing is left to supervise."""

    status: int


Action = Start | Notify | Kill | Park | LogLine | Exit
