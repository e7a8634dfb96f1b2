"""What a roster wants done: frozen values, each carried out by the supervisor in a line or two."""

from __future__ import annotations

from typing import NamedTuple


class Start(NamedTuple):
    """Start a process for this worker on its slot's sockets."""

    worker: int
    slot: int


class Send(NamedTuple):
    """Send a command to a worker."""

    worker: int
    command: str


class Kill(NamedTuple):
    """End a worker's process at once."""

    worker: int


class Park(NamedTuple):
    """Stop the kernel from sending connections to this slot until a worker listens on it again."""

    slot: int


class Log(NamedTuple):
    """Write a line to the log."""

    level: int
    message: str


class Exit(NamedTuple):
    """Return from the supervisor: no worker is left."""

    status: int


Action = Start | Send | Kill | Park | Log | Exit
