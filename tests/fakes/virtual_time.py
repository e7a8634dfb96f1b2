"""Time that a test advances: a clock, an event loop whose timers follow it, and delayed calls."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


class Clock:
    """Calling it returns the time. It stands still until a test changes `now`; each call advances it by `each`."""

    def __init__(self, now: float = 1000.0, *, each: float = 0.0) -> None:
        self._now = now
        self._each = each
        self._sleepers: list[tuple[float, asyncio.Future[None]]] = []
        self._asleep: asyncio.Event | None = None

    def __call__(self) -> float:
        if self._each:
            self.now += self._each
        return self.now

    @property
    def now(self) -> float:
        """Seconds. Setting it wakes the sleepers that are due."""
        return self._now

    @now.setter
    def now(self, now: float) -> None:
        self._now = now
        for at, woken in self._sleepers:
            if at <= now and not woken.done():
                woken.set_result(None)

    async def sleep(self, seconds: float) -> None:
        """Replaces asyncio.sleep: returns when the clock has advanced by `seconds`."""
        sleeper = self.now + seconds, asyncio.get_running_loop().create_future()
        self._sleepers.append(sleeper)
        if self._asleep is not None:
            self._asleep.set()
        try:
            await sleeper[1]
        finally:
            self._sleepers.remove(sleeper)

    async def until_asleep(self) -> float:
        """Wait until a task sleeps; returns the seconds until the first sleeper is due."""
        self._asleep = asyncio.Event()
        while (left := self.next_wake()) is None:
            self._asleep.clear()
            await self._asleep.wait()
        return left - self.now

    @property
    def sleepers(self) -> int:
        """Number of sleepers."""
        return sum(not woken.done() for _, woken in self._sleepers)

    def next_wake(self) -> float | None:
        """When the first sleeper is due; None if there is none."""
        return min((at for at, woken in self._sleepers if not woken.done()), default=None)


class RunningClock(Clock):
    """The machine's clock, which a test may put forward."""

    def __init__(self) -> None:
        super().__init__(0.0)

    @property
    def now(self) -> float:
        """Seconds; `now += n` puts the clock forward by n."""
        return time.monotonic() + self._now

    @now.setter
    def now(self, now: float) -> None:
        self._now = now - time.monotonic()

    async def sleep(self, seconds: float) -> None:
        """Sleep on a loop that follows this clock."""
        await asyncio.sleep(seconds)


class VirtualLoop(asyncio.SelectorEventLoop):
    """A loop whose timers follow a `Clock`. Sockets are real: received bytes wake it at any time."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        super().__init__()

    def time(self) -> float:
        """The clock's time."""
        return self.clock.now

    @property
    def idle(self) -> bool:
        """Nothing is left to do at this time, but for bytes that may come."""
        if self._ready:  # type: ignore[attr-defined]
            return False
        timers = self._scheduled  # type: ignore[attr-defined]
        return not timers or timers[0].when() > self.time()


def run_on(clock: Clock, work: Coroutine[Any, Any, T]) -> T:
    """Like asyncio.run, on a loop that follows `clock`."""
    with asyncio.Runner(loop_factory=lambda: VirtualLoop(clock)) as runner:
        return runner.run(work)


def pass_time(seconds: float) -> None:
    """Advance the time of the running `VirtualLoop`."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualLoop)
    loop.clock.now += seconds


async def real_moment() -> None:
    """Wait a real millisecond, whatever the loop's clock is, to let other processes run."""
    loop = asyncio.get_running_loop()
    if isinstance(loop, VirtualLoop) and not isinstance(loop.clock, RunningClock):
        await loop.run_in_executor(None, time.sleep, 0.001)
    else:
        await asyncio.sleep(0.001)


class Later:
    """A `call_later` whose delayed calls the test runs."""

    def __init__(self) -> None:
        self.due: list[tuple[float, Callable[[], object]]] = []

    def __call__(self, seconds: float, work: Callable[[], object], /) -> None:
        self.due.append((seconds, work))

    def run(self) -> None:
        """Run all delayed calls, and those that they add."""
        while self.due:
            self.due.pop(0)[1]()

    def run_all_of(self, seconds: float) -> None:
        """Run the calls with exactly this delay, but not those that they add."""
        these = [each for each in self.due if each[0] == seconds]
        self.due = [each for each in self.due if each[0] != seconds]
        for _, work in these:
            work()
