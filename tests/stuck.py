"""Ends a test that exceeds its time limit, and reports where each of its threads and asyncio tasks was.

pytest-timeout asks this file to watch each test. After the limit the test fails with the report, by an exception in
the main thread; if that does not end it (a call into C that never returns), its process and all it started are killed.
SIGALRM, which pytest-timeout itself would use, belongs to the gateway's own watchdog.
"""

from __future__ import annotations

import asyncio
import gc
import linecache
import os
import signal
import sys
import threading
import traceback
from collections.abc import Iterator
from types import FrameType
from typing import Any, Final

from loadtests.processes.procfs import family, stats

SIGNAL: Final = signal.SIGRTMIN
"""A signal that no program under test uses."""
GRACE_S: Final = 30.0
"""Seconds from the exception in the main thread to the end of the process."""


class Stuck(KeyboardInterrupt):
    """Raised in the main thread: uvloop lets no other kind out of a callback. tests/conftest.py makes it a failure."""


class Watch:
    """The time limit of one test."""

    def __init__(self, test: str, limit_s: float) -> None:
        self.report = ""
        self._test, self._limit_s = test, limit_s
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="test limit", daemon=True)
        self._thread.start()

    def end(self) -> None:
        """The test is over. The next one may count threads, so this one's has ended."""
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        if self._over.wait(self._limit_s):
            return
        self.report = f"{self._test} did not end within {self._limit_s:g} s\n{report()}"
        main = threading.main_thread().ident
        assert main is not None
        signal.pthread_kill(main, SIGNAL)
        if not self._over.wait(GRACE_S):
            os.write(_stderr[0], f"\n{self.report}\nIt could not be broken off: its process is killed.\n".encode())
            _kill_all()


watching: list[Watch] = []
"""The watch of the running test, if any."""
_stderr = [2]
"""The file for the report when the process is killed."""


def install() -> None:
    """Take the signal, and standard error as it is now: before pytest captures it. Main thread only."""
    signal.signal(SIGNAL, _break_off)
    _stderr[0] = os.dup(2)


def _break_off(number: int, frame: FrameType | None) -> None:
    if watching:
        raise Stuck(watching[0].report)


def _kill_all() -> None:
    for pid in reversed(list(family(os.getpid(), stats()))):
        os.kill(pid, signal.SIGKILL)


def report() -> str:
    """Every thread's stack, and for each task of a running event loop the line that it waits at, outermost first."""
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    parts = [
        f"--- thread {names.get(ident, ident)}\n{''.join(traceback.format_stack(frame))}"
        for ident, frame in sys._current_frames().items()
        if ident != threading.get_ident()
    ]
    for loop in [each for each in gc.get_objects() if isinstance(each, asyncio.AbstractEventLoop)]:
        if loop.is_running():
            parts += [f"--- task {task.get_name()}\n{''.join(_awaits(task))}" for task in asyncio.all_tasks(loop)]
    return "\n".join(parts)


def _awaits(task: asyncio.Task[Any]) -> Iterator[str]:
    at: Any = task.get_coro()
    while (frame := _frame(at)) is not None:
        code = frame.f_code
        line = linecache.getline(code.co_filename, frame.f_lineno).strip()
        yield f'  File "{code.co_filename}", line {frame.f_lineno}, in {code.co_name}\n    {line}\n'
        at = getattr(at, "cr_await", None) or getattr(at, "gi_yieldfrom", None) or getattr(at, "ag_await", None)
    yield f"  {at!r}\n"


def _frame(at: object) -> FrameType | None:
    kinds = ("cr_frame", "gi_frame", "ag_frame")
    return next((frame for kind in kinds if (frame := getattr(at, kind, None)) is not None), None)
