"""The socket pair between the supervisor and a worker: one line a word, both ways, and its end is news too.

An end that is gone says that the process is: a worker learns that way that its supervisor was killed. Both sides skip
words that they do not know, because after an upgrade an old supervisor talks to new workers. Signals could not do
this: one sent to the whole process group (Ctrl-C, systemd's default) would reach a worker twice, and twice is "now".
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from collections.abc import Callable, Mapping
from typing import NamedTuple

# The supervisor says
HAND_OVER = "hand-over"
"""Your successor accepts on your sockets: accept nothing more, finish what you have, exit."""
STOP = "stop"
"""Leave service as on SIGTERM."""
HURRY = "hurry"
"""And do so now."""

# A worker says
WARMING = "warming"
"""I have read my settings; followed by how many seconds the warm-up may take."""
READY = "ready"
"""I accept requests."""
LEAVE = "leave"
"""I was asked to drain, and go on until I have a successor."""
FAILED = "failed"
"""I end; followed by why."""

PLACE_VARIABLE = "TURNOUT_WORKER"
"""Environment variable that makes `turnout serve` a worker; it holds a Place as JSON."""

_LONGEST = 4000
_READ_BYTES = 65536


class WorkerSockets(NamedTuple):
    """What a supervisor hands to a worker: open file descriptors, and the names of what they listen on."""

    slot: int
    listen: str
    control: str
    inference_fd: int
    control_fd: int
    tether_fd: int

    def as_environment(self) -> dict[str, str]:
        """The variable that carries it."""
        return {PLACE_VARIABLE: json.dumps(self._asdict())}


def place_in(environ: Mapping[str, str]) -> WorkerSockets | None:
    """The place this process was given, None if it is nobody's worker. What a newer supervisor adds is ignored."""
    text = environ.get(PLACE_VARIABLE)
    if not text:
        return None
    given = json.loads(text)
    return WorkerSockets(**{field: given[field] for field in WorkerSockets._fields})


class WorkerChannel:
    """One end. Saying never blocks and never fails: whoever does not listen is about to be noticed as gone."""

    def __init__(self, end: socket.socket) -> None:
        """Takes the socket over."""
        end.setblocking(False)
        self._end = end
        self._got = b""
        self._loop: asyncio.AbstractEventLoop | None = None
        self._hear: Callable[[str, str], None] | None = None
        self._lost: Callable[[], None] | None = None

    def say(self, word: str, rest: str = "") -> None:
        """Say a word, and what belongs to it."""
        line = " ".join(f"{word} {rest}".split())[:_LONGEST]
        with contextlib.suppress(OSError):
            self._end.send(line.encode() + b"\n")

    def listen(self, hear: Callable[[str, str], None], lost: Callable[[], None]) -> None:
        """From now on, in the running loop: `hear(word, rest)` for each line, `lost()` when the other end is gone."""
        self._loop = asyncio.get_running_loop()
        self._hear, self._lost = hear, lost
        self._loop.add_reader(self._end, self._readable)

    def close(self) -> None:
        """Hear what was still said, then let go. Safe to call twice."""
        if self._loop is not None:
            self._loop.remove_reader(self._end)
            self._loop, self._lost = None, None
            while self._read():
                pass
        self._end.close()

    def _readable(self) -> None:
        if not self._read() and self._loop is not None:
            self._loop.remove_reader(self._end)
            if self._lost is not None:
                self._lost()

    def _read(self) -> bool:
        """Take what has come; False when nothing more will."""
        try:
            got = self._end.recv(_READ_BYTES)
        except BlockingIOError:
            return self._loop is not None
        except OSError:
            return False
        *lines, self._got = (self._got + got).split(b"\n")
        for line in lines:
            word, _, rest = line.decode(errors="replace").partition(" ")
            if self._hear is not None:
                self._hear(word, rest)
        return bool(got)
