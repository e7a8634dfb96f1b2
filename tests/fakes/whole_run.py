"""Runs a program to its end and leaves no process behind: remaining descendants are killed."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from loadtests.processes.procfs import family, stats
from tests.fakes.waiting import DEADLINE_S

GRACE_S = 10.0
"""Seconds in which a program that hangs may end its own children."""


def whole_run(
    command: Sequence[str | Path],
    timeout_s: float = DEADLINE_S,
    *,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
) -> subprocess.CompletedProcess[str]:
    """Like `subprocess.run` with text output. Raises TimeoutExpired after the deadline, which is for hangs only."""
    # Not pipes: a process that a child leaves behind would keep them open, and the reader waiting.
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        process = subprocess.Popen(
            command, cwd=cwd, env=env, stdin=subprocess.DEVNULL, stdout=out, stderr=err, text=True
        )
        try:
            status = process.wait(timeout_s)
        except BaseException:
            end(process)
            raise
        out.seek(0)
        err.seek(0)
        return subprocess.CompletedProcess(command, status, out.read(), err.read())


def end(process: subprocess.Popen[bytes] | subprocess.Popen[str]) -> None:
    """Make sure that the process and its descendants have ended."""
    if process.returncode is not None:
        return
    descendants = list(family(process.pid, stats()))[1:]
    process.terminate()
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(GRACE_S)
    # Children started since are found until the process is waited for; the others are in the earlier list.
    seen = {*descendants, *(family(process.pid, stats()) if process.returncode is None else ())}
    for pid in seen:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    process.wait(DEADLINE_S)
