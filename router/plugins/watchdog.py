"""Interrupts a pick, or a load, that does not end: a kernel timer, and a signal handler that raises inside it.

An endless loop in a plugin's `pick` would stop the event loop, and with it every request. Python runs signal handlers
in the main thread between two bytecodes, and an exception of a handler is raised where the thread is. So the handler
inspects the stack: only below `_bounded`, and not in it, foreign code runs, and only there it raises. This cannot race.

It works whether the code computes, sleeps, or is in a regular expression. A single call into C that neither returns
nor checks for signals (`sum(itertools.count())`) cannot be interrupted. Code that swallows even `BaseException` is
interrupted again, ever faster, until it returns. Costs 1.7 us a call, so built-in policies are not watched.
"""

from __future__ import annotations

import gc
import signal
import threading
from collections.abc import Callable, Mapping
from types import FrameType
from typing import Any, Final, TypeVar

from schedulers import registry
from schedulers.guard import PolicyQuit, PolicyTimeout
from schedulers.protocols import Scheduler
from schedulers.types import Decision, LoadSnapshot, Rejection, RequestInfo

_T = TypeVar("_T")

AGAIN_S: Final = 0.005
"""Seconds between two signals, for code that swallowed the first. Much longer than this handler takes even where it is
traced: if the next signal always came before the handler returned, handlers would pile up and none would raise."""
PATIENCE: Final = 3
"""After this number of signals the next comes `FINE_S` to 20 times that later, so that one falls between two `try`."""
FINE_S: Final = 10e-6


class Stuck(BaseException):
    """Raised in the middle of foreign code. No `Exception`, since that code may swallow those."""


class Watched:
    """A policy whose picks are interrupted after `stuck_s`, and raise nothing but Exceptions. Main thread only."""

    __slots__ = ("_pick", "_stuck_s", "name", "scheduler")

    def __init__(self, scheduler: Scheduler, stuck_s: float) -> None:
        """Takes over SIGALRM and ITIMER_REAL."""
        _install()
        self.scheduler = scheduler
        self.name = scheduler.name
        self._pick = scheduler.pick
        self._stuck_s = stuck_s

    def __repr__(self) -> str:
        return f"<Watched {self.scheduler!r}>"

    def pick(self, request: RequestInfo, snapshot: LoadSnapshot, /) -> Decision | Rejection:
        """See Scheduler. Raises PolicyTimeout and PolicyQuit too."""
        return _bounded(self._stuck_s, self._pick, request, snapshot)


def watched(scheduler: Scheduler, stuck_s: float) -> Scheduler:
    """`scheduler`, watched; unchanged in a thread that gets no signals."""
    return Watched(scheduler, stuck_s) if threading.current_thread() is threading.main_thread() else scheduler


def create_watched(stuck_s: float, name: str, params: Mapping[str, object] | None = None) -> Scheduler:
    """As the registry creates it, and watched unless it is built in. Raises SchedulerError."""
    scheduler = registry.create(name, params)
    return scheduler if registry.is_built_in(name) else watched(scheduler, stuck_s)


def bounded(limit_s: float, work: Callable[..., _T], *given: Any) -> _T:
    """What `work` returns. Main thread only.

    Raises PolicyTimeout if that takes longer than `limit_s`, PolicyQuit in place of what is no Exception.
    """
    _install()
    return _bounded(limit_s, work, *given)


def _bounded(limit_s: float, work: Callable[..., _T], *given: Any) -> _T:
    # No helper below `finally`: a late signal would find its frame under this one and take it for the policy.
    _bell.rings = 0
    signal.setitimer(signal.ITIMER_REAL, limit_s, AGAIN_S)
    try:
        return work(*given)
    except Stuck as stuck:
        raise PolicyTimeout(f"did not return within {limit_s:g} s, it was {stuck}") from None
    except Exception:
        raise
    except BaseException as error:  # noqa: BLE001  see below
        # SystemExit and its like would end the process or the task around it, which foreign code must not do.
        raise PolicyQuit(f"raised {error!r}") from None
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0.0)
        if _bell.rings:
            signal.set_wakeup_fd(_bell.wakeup_fd)
            signal.pthread_sigmask(signal.SIG_SETMASK, _bell.mask)
            if _bell.collecting:
                gc.enable()


class _Bell:
    """The alarm. From the first signal to the end of the call no other signal is delivered, and none wakes the loop.

    An event loop gets each signal's number through a socket, which it cannot read while it is blocked: after some 300
    signals that would be full, Python would complain on standard error, and a SIGTERM's number would be lost.
    Nor does the garbage collector run: an exception raised in one of its finalizers ends that, and not the call.
    """

    def __init__(self) -> None:
        self.rings = 0
        self.wakeup_fd = -1
        self.collecting = False
        self.mask: set[int | signal.Signals] = set()

    def ring(self, number: int, frame: FrameType | None) -> None:
        """The signal's handler; `frame` is where the main thread is."""
        if frame is None or not _is_foreign(frame):
            return
        if not self.rings:
            self.mask = signal.pthread_sigmask(signal.SIG_BLOCK, _OTHERS)
            self.wakeup_fd = signal.set_wakeup_fd(-1)
            self.collecting = gc.isenabled()
            gc.disable()
        self.rings += 1
        if self.rings >= PATIENCE:
            # After a different time each time, so that no loop can be in step with it.
            signal.setitimer(signal.ITIMER_REAL, FINE_S * (1 + self.rings % 20), AGAIN_S)
        raise Stuck(f"at line {frame.f_lineno} of {frame.f_code.co_filename}")


def _is_foreign(frame: FrameType) -> bool:
    """Whether the frame is below `_bounded`, and not in this handler, interrupted by a second signal."""
    at: FrameType | None = frame
    if frame.f_code is _BOUNDED:
        return False
    while at is not None and at.f_code is not _BOUNDED:
        if at.f_code is _RING:
            return False
        at = at.f_back
    return at is not None


_OTHERS: Final = signal.valid_signals() - {signal.SIGALRM}
_BOUNDED: Final = _bounded.__code__
_RING: Final = _Bell.ring.__code__
_bell = _Bell()


def _install() -> None:
    """Install the handler unless it is. A bound method is a new object each time, so it is compared by value."""
    if signal.getsignal(signal.SIGALRM) != _bell.ring:
        signal.signal(signal.SIGALRM, _bell.ring)
        signal.siginterrupt(signal.SIGALRM, False)
