"""A time limit for foreign code in a thread, where no signal handler can interrupt it (`watchdog.py` needs the main
thread). The code runs in a daemon thread of its own, so that the event loop goes on and the process can end.

At the limit an exception is raised inside the thread, and again until the thread ends. It is raised between two
bytecodes: a call into C that does not return cannot be interrupted, and is abandoned after `ABANDON_S`.
"""

from __future__ import annotations

import ctypes
import sys
import threading
import time
from collections.abc import Callable
from typing import Any, Final, TypeVar, cast

from router.plugins.watchdog import AGAIN_S, Stuck
from schedulers.guard import PolicyQuit, PolicyTimeout

_T = TypeVar("_T")

ABANDON_S: Final = 5.0
"""Seconds after the limit in which the code is interrupted again and again. A thread that still runs then is left
alone: it takes processor time, but holds up neither the event loop nor the end of the process."""


def bounded_in_thread(limit_s: float, work: Callable[..., _T], *given: Any) -> _T:
    """What `work` returns. Blocks, so the event loop calls it through `asyncio.to_thread`.

    Raises PolicyTimeout if it takes longer than `limit_s`, PolicyQuit in place of what is no Exception.
    """
    run = _Run(work, given)
    run.thread.start()
    run.begun.wait()  # a busy machine may start it late
    run.thread.join(limit_s)
    where = ""
    abandon_at = time.monotonic() + ABANDON_S
    while run.thread.is_alive() and time.monotonic() < abandon_at:
        where = where or _position(run.thread)
        run.interrupt()
        run.thread.join(AGAIN_S)
    if where:
        raise PolicyTimeout(f"did not return within {limit_s:g} s, it was {where}")
    if run.error is None:
        return cast(_T, run.result)
    if isinstance(run.error, Exception):
        raise run.error
    # SystemExit and its like mean the process, which is not this code's to end.
    raise PolicyQuit(f"raised {run.error!r}")


class _Run:
    """One call in its thread, and what came of it."""

    def __init__(self, work: Callable[..., object], given: tuple[object, ...]) -> None:
        self.result: object = None
        self.error: BaseException | None = None
        self.begun = threading.Event()
        self.thread = threading.Thread(target=self._run, args=(work, given), name="plugin-load", daemon=True)
        self._ended = False
        self._lock = threading.Lock()

    def interrupt(self) -> None:
        """Raise Stuck in the thread, unless its work has ended."""
        with self._lock:
            if not self._ended and self.thread.ident is not None:
                ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(self.thread.ident), ctypes.py_object(Stuck))

    def _run(self, work: Callable[..., object], given: tuple[object, ...]) -> None:
        try:
            self.begun.set()
            try:
                self.result = work(*given)
            except BaseException as error:  # noqa: BLE001  foreign code; raised again by the caller
                self.error = error
            with self._lock:
                self._ended = True
        except Stuck as stuck:  # it arrived after the work had ended
            self.error = stuck


def _position(thread: threading.Thread) -> str:
    frame = sys._current_frames().get(thread.ident or 0)
    return f"at line {frame.f_lineno} of {frame.f_code.co_filename}" if frame is not None else "ending"
