"""A gateway with two workers as processes: the supervisor, the workers' ids, and a clean end in all cases.

By default each worker keeps its own state in memory, which the command line refuses.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from loadtests.processes.procfs import stats
from tests.fakes.gateway_process import GatewayProcess
from tests.fakes.waiting import wait_for

WITHOUT_STATE = """
import sys
from router.config.file import load
from router.workers.supervisor import supervise
command = [sys.executable, "-P", "-m", "router", "serve", "--config", sys.argv[1]]
sys.exit(supervise(load(sys.argv[1]), 2, command))
"""


class Workers(GatewayProcess):
    """A supervisor with two workers."""

    def pids(self) -> set[int]:
        """The process ids of its workers, including old ones that still drain."""
        return {int(pid) for pid in Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()}

    def said(self, words: str) -> int:
        """How often the supervisor logged this message."""
        return sum(words in line["msg"] for line in self.lines() if line.get("logger") == "turnout.workers")

    def roll(self) -> set[int]:
        """Roll the workers; returns the new workers when only they serve."""
        before, rolls = self.pids(), self.said("all workers are new")
        self.signal(signal.SIGHUP)
        wait_for("all workers are new", lambda: self.said("all workers are new") > rolls)
        return self.pids() - before


@contextmanager
def workers(
    directory: Path,
    settings: dict[str, Any],
    *,
    expected: Sequence[str] = (),
    program: Sequence[str] = ("-c", WITHOUT_STATE),
    flags: Sequence[str] = (),
) -> Iterator[Workers]:
    """Two serving workers for the block; then asserts that only `expected` errors are logged and no process is left."""
    gateway = Workers(settings, directory / "gateway", program=program, flags=flags)
    try:
        wait_for("both serve", lambda: gateway.said("serves slot") == 2)
        yield gateway
        assert gateway.complaints(expected) == []
    finally:
        gateway.kill()
        # Without their supervisor, workers stay until their last stream has ended.
        for pid in named_in_command(directory):
            with suppress(ProcessLookupError):  # it has just ended by itself
                os.kill(pid, signal.SIGKILL)


def named_in_command(directory: Path) -> list[int]:
    """The ids of processes whose command names a file in that directory."""
    return [pid for pid in stats() if str(directory) in command_of(pid)]


def command_of(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return ""


def alive(pid: int) -> bool:
    """Whether the process runs."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return "State:\tZ" not in status
