"""A private redis-server on a free port. It writes nothing to disk, so it is empty after a restart."""

from __future__ import annotations

import contextlib
import shutil
import signal
import socket
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Self

from loadtests.processes.owned import ANY_CORE, Owned
from loadtests.sim.ports import HOST, free_ports

START_S = 60.0


def program() -> str | None:
    """The path of redis-server or valkey-server; None if neither is installed."""
    return shutil.which("redis-server") or shutil.which("valkey-server")


class RedisServer:
    """Started by its constructor; `stop` ends it, and so does the end of a `with` block."""

    def __init__(self, directory: Path, core: int = ANY_CORE, options: Sequence[str] = ()) -> None:
        self.port = free_ports(1)[0]
        self._core, self._options = core, options
        self._directory = directory
        self.process = self._start()

    @property
    def url(self) -> str:
        """As `--state` takes it."""
        return f"redis://{HOST}:{self.port}"

    def _start(self) -> Owned:
        where = ["--port", str(self.port), "--bind", HOST, "--dir", str(self._directory)]
        command = [program() or "redis-server", *where, "--save", "", "--appendonly", "no", *self._options]
        process = Owned(command, self._core, self._directory / "redis.log")
        end = time.monotonic() + START_S
        while not self._listens():
            if process.ended() or time.monotonic() > end:
                process.stop()
                raise RuntimeError(f"redis-server does not listen:\n{process.log.read_text()}")
            time.sleep(0.01)
        return process

    def _listens(self) -> bool:
        with contextlib.suppress(OSError), socket.create_connection((HOST, self.port), 1.0) as link:
            link.sendall(b"PING\r\n")
            return link.recv(16).startswith(b"+PONG")
        return False

    def restart_empty(self) -> None:
        """Kill it and start an empty one on the same port."""
        self.process.kill()
        self.process = self._start()

    def pause(self) -> None:
        """SIGSTOP: connections stay open, nothing is answered."""
        self.process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """SIGCONT."""
        self.process.send_signal(signal.SIGCONT)

    def stop(self) -> None:
        """End it, also while it is paused."""
        self.process.kill()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.stop()
