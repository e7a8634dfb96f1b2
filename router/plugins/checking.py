"""Starts the process that checks a file, waits for it, and reports the result: a file that loops, crashes or uses up
memory does not harm the gateway. Blocks; the gateway calls it from a thread.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import router
from router.plugins.examples import Example
from router.plugins.loading import digest_of
from router.plugins.types import CheckJob, CheckReport, packed

_ROOT: Final = str(Path(router.__file__).resolve().parents[1])
_PROGRAM: Final = f"import sys; sys.path.append({_ROOT!r}); from router.plugins.check import main; main()"


class CheckLimits(NamedTuple):
    """What a check may use."""

    timeout_s: float = 20.0
    memory_bytes: int = 1 << 30


def check(source: bytes, file: str, recorded: Sequence[Example] = (), limits: CheckLimits | None = None) -> CheckReport:
    """Check the file in a process of its own, also on `recorded` requests of the gateway. Never raises."""
    given = limits or CheckLimits()
    began = time.monotonic()
    job = CheckJob(source, file, tuple(sys.path), given.memory_bytes, given.timeout_s, tuple(recorded))
    try:
        lines, ended = _run(packed(job), given.timeout_s)
    except OSError as error:
        lines, ended = [], f"its check could not be started: {error}"
    report = CheckReport(file, digest_of(source), took_s=round(time.monotonic() - began, 3))
    return _reported(report, lines, ended, len(recorded))


def _run(job: bytes, timeout_s: float) -> tuple[list[dict[str, Any]], str]:
    """The lines that the process reported, and why it did not end as it should; empty if it did."""
    # -I: neither the working directory nor PYTHON* variables decide what is imported; the path is in the job.
    process = subprocess.Popen(
        [sys.executable, "-I", "-c", _PROGRAM],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={"LANG": "C.UTF-8"},
        start_new_session=True,
    )
    try:
        output, _ = process.communicate(job, timeout_s)
        ended = "" if process.returncode == 0 else _status(process.returncode)
    except subprocess.TimeoutExpired:
        ended = f"did not end within {timeout_s:g} s"
        _kill(process.pid)
        output, _ = process.communicate()
    return _lines(output), ended


def _lines(output: bytes) -> list[dict[str, Any]]:
    """The lines that can be read: the last one may be cut, and the file may have written to the pipe itself."""
    read: list[dict[str, Any]] = []
    for line in output.splitlines():
        with contextlib.suppress(ValueError):
            found = json.loads(line)
            if isinstance(found, dict):
                read.append(found)
    return read


def _kill(group: int) -> None:
    """Kill the process and all that it has started."""
    try:
        os.killpg(group, signal.SIGKILL)
    except ProcessLookupError:
        return


def _status(code: int) -> str:
    return f"ended with {signal.Signals(-code).name}" if code < 0 else f"ended with status {code}"


def _reported(report: CheckReport, lines: Sequence[dict[str, Any]], ended: str, replayed: int) -> CheckReport:
    last = lines[-1] if lines else {}
    if "problem" not in last:
        ended = ended or "ended without a word"
        at = f" while {last['at']}" if "at" in last else ""
        message = ended if ended.startswith("its check") else f"its check {ended}{at}"
        return report._replace(problem=message)
    if last["problem"]:
        return report._replace(problem=last["problem"])
    try:
        return report._replace(
            policies=tuple(last["policies"]), load_s=last["load_s"], pick_us=last["pick_us"], replayed=replayed
        )
    except (KeyError, TypeError):
        return report._replace(problem="its check reported what cannot be read")
