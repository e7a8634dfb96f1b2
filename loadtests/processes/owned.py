"""A child process: pinned to a core, with a log, ended by its pid. `procfs.py` reads what it used."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType

import httpx

from loadtests.processes.procfs import family, stats

GRACE_S = 3.0
"""From SIGTERM to SIGKILL."""

ENVIRONMENT = {"TOKIO_WORKER_THREADS": "1", "PYTHONWARNINGS": "ignore"}
"""Each router has one core, so those built on tokio get one worker thread."""

ANY_CORE = -1
"""Not pinned."""

_CORES = frozenset(os.sched_getaffinity(0))
"""The cores this process was started on: a bench later pins itself, and with it its unpinned children, to one."""


def pin(core: int) -> list[str]:
    """The command prefix that pins a program to a core; empty if there is no such core, and for `ANY_CORE`."""
    if core in _CORES and shutil.which("taskset"):
        return ["taskset", "-c", str(core)]
    return []


class Owned:
    """A program, started by the constructor; `stop` ends it, and so does the end of a `with` block."""

    def __init__(self, command: Sequence[str], core: int, log: Path) -> None:
        self.log = log
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                [*pin(core), *command],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env={**os.environ, **ENVIRONMENT},
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        """The program's pid: `taskset` replaces itself by the program."""
        return self._process.pid

    def ended(self) -> bool:
        """Whether it has ended."""
        return self._process.poll() is not None

    @property
    def exit_status(self) -> int | None:
        """None while it runs."""
        return self._process.poll()

    def pids(self) -> list[int]:
        """Its pid and those of its descendants."""
        return [*family(self.pid, stats())]

    def send_signal(self, number: int) -> None:
        """Send a signal unless it has ended."""
        self._process.send_signal(number)

    def kill(self) -> None:
        """SIGKILL to it alone, and wait for its end."""
        self._process.kill()
        self._process.wait()

    def terminate(self) -> None:
        """SIGTERM without waiting, so that several can end at the same time."""
        if not self.ended():
            self._process.terminate()

    def stop(self) -> None:
        """SIGTERM; after `GRACE_S`, SIGKILL to it and its children."""
        self.terminate()
        try:
            self._process.wait(GRACE_S)
        except subprocess.TimeoutExpired:
            # It leads its own session: its process group holds only it and its children.
            os.killpg(self.pid, signal.SIGKILL)
            self._process.wait()

    def __enter__(self) -> Owned:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


class NotReady(Exception):
    """A program ended or was not ready in time; the message holds the end of its log."""


def wait_until_ready(owned: Owned, url: str, timeout_s: float = 90.0) -> None:
    """Wait until `url` answers 2xx. Raises NotReady."""
    _wait(owned, "GET", url, b"", timeout_s)


def wait_until_serving(owned: Owned, url: str, body: bytes, timeout_s: float = 90.0) -> None:
    """Wait until a POST of `body` to `url` is answered 2xx: some routers report healthy before they know a pod.

    Raises NotReady.
    """
    _wait(owned, "POST", url, body, timeout_s)


def wait_for(what: str, look: Callable[[], bool], timeout_s: float = 90.0) -> None:
    """Wait until `look` returns true. Raises NotReady."""
    deadline = time.monotonic() + timeout_s
    while not look():
        if time.monotonic() > deadline:
            raise NotReady(f"not within {timeout_s:g} s: {what}")
        time.sleep(0.02)


def _wait(owned: Owned, method: str, url: str, body: bytes, timeout_s: float) -> None:
    deadline = time.monotonic() + timeout_s
    with httpx.Client(trust_env=False, verify=False, timeout=2.0) as client:
        while not _answers(client, method, url, body):
            if owned.ended() or time.monotonic() > deadline:
                raise NotReady(f"{url} does not answer:\n{owned.log.read_text(errors='replace')[-2000:]}")
            time.sleep(0.05)


def _answers(client: httpx.Client, method: str, url: str, body: bytes) -> bool:
    try:
        # Only the head is read: the answer may be a stream of half a minute.
        with client.stream(method, url, content=body, headers={"content-type": "application/json"}) as answer:
            return answer.is_success
    except httpx.TransportError:
        return False
