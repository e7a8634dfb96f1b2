"""A process of our own: pinned to a core, ended by its pid and no other way. What it used, `usage.py` reads."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import NamedTuple

import httpx

TICK_S = 1 / os.sysconf("SC_CLK_TCK")
GRACE_S = 3.0
"""From SIGTERM to SIGKILL."""

ENVIRONMENT = {"TOKIO_WORKER_THREADS": "1", "PYTHONWARNINGS": "ignore"}
"""One core each, so one worker thread for the routers that are built on tokio."""


ANY_CORE = -1
"""Not pinned."""

_CORES = frozenset(os.sched_getaffinity(0))
"""Those this process may use, as it was started: later it ties itself to one, and with it all that it does not pin."""


def pin(core: int) -> list[str]:
    """The command prefix that ties a program to a core; nothing where there is no such core, or for `ANY_CORE`."""
    if core in _CORES and shutil.which("taskset"):
        return ["taskset", "-c", str(core)]
    return []


class Stat(NamedTuple):
    """The fields of /proc/PID/stat that are used here."""

    parent: int
    cpu_s: float
    """User plus system time."""


def parse_stat(text: str) -> Stat:
    """Read /proc/PID/stat. The name in brackets may itself hold brackets and blanks: the last bracket ends it."""
    fields = text.rpartition(")")[2].split()
    return Stat(parent=int(fields[1]), cpu_s=(int(fields[11]) + int(fields[12])) * TICK_S)


def stats() -> dict[int, Stat]:
    """Every process there is now."""
    found = {}
    for entry in os.scandir("/proc"):
        if entry.name.isdigit():
            try:
                found[int(entry.name)] = parse_stat(Path(entry.path, "stat").read_text())
            except OSError:
                continue  # it ended while we looked
    return found


def family(pid: int, every: dict[int, Stat]) -> Iterator[int]:
    """`pid` and all that descend from it."""
    yield pid
    for child, stat in every.items():
        if stat.parent == pid:
            yield from family(child, every)


class Owned:
    """A program that runs as long as the `with` block does."""

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
        """Its pid; `taskset` replaces itself by the program, so this is the program's own."""
        return self._process.pid

    def ended(self) -> bool:
        """Whether it is gone already."""
        return self._process.poll() is not None

    @property
    def exit_status(self) -> int | None:
        """None while it runs."""
        return self._process.poll()

    def pids(self) -> list[int]:
        """It and its children."""
        return [*family(self.pid, stats())]

    def send_signal(self, number: int) -> None:
        """Any signal, if it is still there."""
        self._process.send_signal(number)

    def kill(self) -> None:
        """SIGKILL to it alone, and wait until it is gone."""
        self._process.kill()
        self._process.wait()

    def terminate(self) -> None:
        """SIGTERM, without waiting: so that many can end at the same time."""
        if not self.ended():
            self._process.terminate()

    def stop(self) -> None:
        """SIGTERM, and SIGKILL to it and its children if that is not heard."""
        self.terminate()
        try:
            self._process.wait(GRACE_S)
        except subprocess.TimeoutExpired:
            # It leads a session of its own, so its process group is it and its children, nobody else.
            os.killpg(self.pid, signal.SIGKILL)
            self._process.wait()

    def __enter__(self) -> Owned:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


class NotReady(Exception):
    """A program ended, or did not answer in time; the message holds its last words."""


def wait_until_ready(owned: Owned, url: str, timeout_s: float = 90.0) -> None:
    """Wait until `url` answers 2xx. Raises NotReady."""
    _wait(owned, "GET", url, b"", timeout_s)


def wait_until_serving(owned: Owned, url: str, body: bytes, timeout_s: float = 90.0) -> None:
    """Wait until a POST of `body` to `url` is answered 2xx: routers call themselves healthy before they know a pod.

    Raises NotReady.
    """
    _wait(owned, "POST", url, body, timeout_s)


def _wait(owned: Owned, method: str, url: str, body: bytes, timeout_s: float) -> None:
    deadline = time.monotonic() + timeout_s
    with httpx.Client(trust_env=False, verify=False, timeout=2.0) as client:
        while not _answers(client, method, url, body):
            if owned.ended() or time.monotonic() > deadline:
                raise NotReady(f"{url} does not answer:\n{owned.log.read_text(errors='replace')[-2000:]}")
            time.sleep(0.05)


def _answers(client: httpx.Client, method: str, url: str, body: bytes) -> bool:
    try:
        # Only the head is awaited: the answer may be a stream of half a minute.
        with client.stream(method, url, content=body, headers={"content-type": "application/json"}) as answer:
            return answer.is_success
    except httpx.TransportError:
        return False
