"""The socket pair between the supervisor and a worker: one message a line, in both directions.

A closed end means that the other process is gone: that is how a worker notices that its supervisor was killed. Both
sides skip messages that they do not know, because after an upgrade an old supervisor talks to new workers. Signals
would not do: one sent to the whole process group (Ctrl-C, systemd's default) reaches a worker twice, and a second stop
means "now".
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from collections.abc import Callable, Mapping
from typing import NamedTuple

# From the supervisor
HAND_OVER = "hand-over"
"""A successor accepts on the worker's sockets: accept nothing more, finish what is in flight, exit."""
STOP = "stop"
"""Leave service as on SIGTERM."""
HURRY = "hurry"
"""Leave service at once."""

# From a worker
WARMING = "warming"
"""The settings are read; followed by how many seconds the warm-up may take."""
READY = "ready"
"""The worker accepts requests."""
LEAVE = "leave"
"""The worker was asked to drain, and serves on until it has a successor."""
FAILED = "failed"
"""The worker ends; followed by the reason."""

PLACE_VARIABLE = "TURNOUT_WORKER"
"""Environment variable that makes `turnout serve` a worker; it holds `WorkerSockets` as JSON."""

_LONGEST = 4000
_READ_BYTES = 65536


class WorkerSockets(NamedTuple):
    """What a supervisor passes to a worker: open file descriptors, and the addresses of the listening sockets."""

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
    """The sockets that this process was given; None if it is no worker. Fields of a newer supervisor are ignored."""
    text = environ.get(PLACE_VARIABLE)
    if not text:
        return None
    given = json.loads(text)
    return WorkerSockets(**{field: given[field] for field in WorkerSockets._fields})


class WorkerChannel:
    """One end. `send` never blocks and never fails: an end that does not read is soon noticed to be gone."""

    def __init__(self, end: socket.socket) -> None:
        """Takes the socket over."""
        end.setblocking(False)
        self._end = end
        self._buffer = b""
        self._loop: asyncio.AbstractEventLoop | None = None
        self._on_message: Callable[[str, str], None] | None = None
        self._on_lost: Callable[[], None] | None = None

    def send(self, message: str, argument: str = "") -> None:
        """Send one message."""
        line = " ".join(f"{message} {argument}".split())[:_LONGEST]
        with contextlib.suppress(OSError):
            self._end.send(line.encode() + b"\n")

    def listen(self, on_message: Callable[[str, str], None], on_lost: Callable[[], None]) -> None:
        """Read in the running loop from now on: `on_message(message, argument)` is called for each line, `on_lost()`
        when the other end is gone.
        """
        self._loop = asyncio.get_running_loop()
        self._on_message, self._on_lost = on_message, on_lost
        self._loop.add_reader(self._end, self._readable)

    def close(self) -> None:
        """Read what has arrived, then close. Safe to call twice."""
        if self._loop is not None:
            self._loop.remove_reader(self._end)
            self._loop, self._on_lost = None, None
            while self._read():
                pass
        self._end.close()

    def _readable(self) -> None:
        if not self._read() and self._loop is not None:
            self._loop.remove_reader(self._end)
            if self._on_lost is not None:
                self._on_lost()

    def _read(self) -> bool:
        """Read what has arrived; False when no more will."""
        try:
            got = self._end.recv(_READ_BYTES)
        except BlockingIOError:
            return self._loop is not None
        except OSError:
            return False
        *lines, self._buffer = (self._buffer + got).split(b"\n")
        for line in lines:
            message, _, argument = line.decode(errors="replace").partition(" ")
            if self._on_message is not None:
                self._on_message(message, argument)
        return bool(got)
