"""The life of a replica: which phase may follow which, and the steps from SIGTERM to exit.

`Lifecycle` is pure: it knows no sockets, signals or tasks, and its clock is a parameter. `drain_sequence` is the thin
async shell around it; it closes, counts and cuts off through functions that it is given.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import NamedTuple

from router.settings import Drain

_log = logging.getLogger("turnout.lifecycle")

_CHECK_S = 0.05
"""Seconds between two checks of a drain whether the last stream has ended."""

_STEP_S = 0.25
"""Seconds of a step while settling. One that takes twice as long had a process that stood still."""

_LOG_S = 10.0
"""Seconds between two log lines of a drain on the requests it waits for."""


class Phase(StrEnum):
    """Where a replica is in its life. The value is what metrics, logs and /admin/state show."""

    STARTING = "starting"
    WARMING = "warming"
    READY = "ready"
    SETTLING = "settling"
    DRAINING = "draining"
    CLOSED = "closed"


_NEXT: Mapping[Phase, frozenset[Phase]] = MappingProxyType(
    {
        # No client is routed to a replica that was never ready: there is nothing to settle.
        Phase.STARTING: frozenset({Phase.WARMING, Phase.DRAINING, Phase.CLOSED}),
        Phase.WARMING: frozenset({Phase.READY, Phase.DRAINING, Phase.CLOSED}),
        Phase.READY: frozenset({Phase.SETTLING, Phase.DRAINING, Phase.CLOSED}),
        Phase.SETTLING: frozenset({Phase.DRAINING, Phase.CLOSED}),
        Phase.DRAINING: frozenset({Phase.CLOSED}),
        Phase.CLOSED: frozenset(),
    }
)

_CLOSING = frozenset({Phase.SETTLING, Phase.DRAINING, Phase.CLOSED})


class IllegalTransition(Exception):
    """A phase that cannot follow the present one: a bug in the caller."""


class PhaseChange(NamedTuple):
    """One change of phase."""

    before: Phase
    after: Phase
    at: float
    """Seconds on the lifecycle's clock."""


class Lifecycle:
    """The present phase of this replica and when each phase began."""

    def __init__(self, clock: Callable[[], float]) -> None:
        """`clock` gives seconds, monotonic."""
        self._clock = clock
        self._phase = Phase.STARTING
        self._since = {Phase.STARTING: clock()}
        self._listeners: list[Callable[[PhaseChange], None]] = []
        self.handed_over = False
        """A successor accepts on the same sockets: clients need no time to move to another replica."""
        self.closing = False
        """Answers carry `connection: close`, so that clients move to another replica."""
        self.cold = False
        """It became ready before its warm-up was complete: decisions may be worse for a while."""

    @property
    def phase(self) -> Phase:
        """Where the replica is."""
        return self._phase

    @property
    def ready(self) -> bool:
        """Whether new traffic is welcome, as /readyz answers.

        After a hand-over it stays true while draining: a probe on an open connection asks about the shared address.
        """
        return self._phase is Phase.READY or (self.handed_over and self._phase is Phase.DRAINING)

    @property
    def since(self) -> Mapping[Phase, float]:
        """When each phase so far began, in seconds on the clock."""
        return MappingProxyType(self._since)

    def lasted_s(self) -> Mapping[Phase, float]:
        """Seconds in each phase so far; those of the present phase grow."""
        began = list(self._since.values())
        ends = [*began[1:], self._clock()]
        return {phase: end - start for phase, start, end in zip(self._since, began, ends, strict=True)}

    def listen(self, listener: Callable[[PhaseChange], None]) -> None:
        """Call `listener` at every change from now on, in the order of registration."""
        self._listeners.append(listener)

    def enter(self, phase: Phase) -> None:
        """Enter `phase`. Raises IllegalTransition, and then nothing has changed."""
        if phase not in _NEXT[self._phase]:
            raise IllegalTransition(f"{phase} cannot follow {self._phase}")
        step = PhaseChange(self._phase, phase, self._clock())
        self._phase = phase
        self.closing = phase in _CLOSING
        self._since[phase] = step.at
        for listener in self._listeners:
            listener(step)


class DrainReport(NamedTuple):
    """How a drain ended."""

    cut: int
    """Requests in flight that were cut off."""
    hurried: bool
    """Whether a second signal ended it."""
    took_s: float


Pause = Callable[[float], Awaitable[None]]
"""Waits for at most this number of seconds; shorter when the drain is hurried."""


async def drain_sequence(
    lifecycle: Lifecycle,
    drain: Drain,
    *,
    stop_accepting: Callable[[], Awaitable[None]],
    inflight: Callable[[], int],
    cut_off: Callable[[], None],
    hurry: asyncio.Event,
    clock: Callable[[], float],
    pause: Pause | None = None,
) -> DrainReport:
    """Take this replica from serving to CLOSED without losing a request that can end in time.

    A replica that is ready, and not handed over, settles first (still accepting, no longer ready), then stops
    accepting and waits for the requests in flight; `cut_off` ends those that are left, each with an error event.
    Setting `hurry` (the second signal) skips all waiting. `pause` replaces real waiting in tests. Exceptions of the
    given functions are raised after the phase has become CLOSED.
    """
    wait = pause or _pause_unless(hurry)
    began = clock()
    left = 0
    try:
        if lifecycle.ready and not lifecycle.handed_over:
            lifecycle.enter(Phase.SETTLING)
            _log.info("not ready any more, accepting for %g s more: load balancers need time to notice", drain.settle_s)
            await _settle(hurry, clock, drain.settle_s, wait)
        lifecycle.enter(Phase.DRAINING)
        await stop_accepting()
        _log.info("accepting no more; %d requests in flight have up to %g s", inflight(), drain.timeout_s)
        await _ended(inflight, hurry, clock, drain.timeout_s, wait)
        if left := inflight():
            _log.warning("cutting off %d requests in flight", left)
            cut_off()
    finally:
        lifecycle.enter(Phase.CLOSED)
    return DrainReport(left, hurry.is_set(), clock() - began)


async def _settle(hurry: asyncio.Event, clock: Callable[[], float], settle_s: float, pause: Pause) -> None:
    """Return after this time, or hurried. A step in which the process stood still does not count, unless the one before
    it was such a step: timers run before sockets are read, and what arrived meanwhile is to be read before the end."""
    left_s, stood_still = settle_s, False
    while left_s > 0 and not hurry.is_set():
        began = clock()
        await pause(min(_STEP_S, left_s))
        took_s = clock() - began
        stood_still = took_s > 2 * _STEP_S and not stood_still
        left_s -= 0.0 if stood_still else took_s


async def _ended(
    inflight: Callable[[], int], hurry: asyncio.Event, clock: Callable[[], float], limit_s: float, pause: Pause
) -> None:
    """Return once nothing is in flight, or at the limit, or hurried; logs how many requests are left."""
    end = clock() + limit_s
    while inflight() and not hurry.is_set() and (left_s := end - clock()) > 0:
        await _wait(lambda: not inflight() or hurry.is_set(), clock, min(_LOG_S, left_s), _CHECK_S, pause)
        if (left := inflight()) and (left_s := end - clock()) > 0 and not hurry.is_set():
            _log.info("%d requests in flight; they have %.0f s more", left, left_s)


async def _wait(
    done: Callable[[], bool], clock: Callable[[], float], limit_s: float, check_s: float, pause: Pause
) -> None:
    """Return once `done()`, checked every `check_s`, or after `limit_s`."""
    end = clock() + limit_s
    while not done() and (left_s := end - clock()) > 0:
        await pause(min(check_s, left_s))


def _pause_unless(hurry: asyncio.Event) -> Pause:
    async def pause(seconds: float) -> None:
        try:
            await asyncio.wait_for(hurry.wait(), seconds)
        except TimeoutError:
            return

    return pause
