"""Virtual time: it stands still until a test moves it, and sleepers wake when their time has come."""

from __future__ import annotations

import asyncio

from tests.fakes.virtual_time import Clock, Later, RunningClock, run_on


def test_a_sleeper_wakes_when_the_clock_is_late_enough_and_not_before() -> None:
    async def story() -> None:
        clock = Clock(5.0)
        sleeping = asyncio.get_running_loop().create_task(clock.sleep(3.0))
        assert await clock.until_asleep() == 3.0
        clock.now += 2.9
        await asyncio.sleep(0)
        assert not sleeping.done()
        clock.now += 0.2
        await sleeping
        assert clock.next_wake() is None

    asyncio.run(story())


def test_a_cancelled_sleeper_is_removed() -> None:
    async def story() -> None:
        clock = Clock()
        sleeping = asyncio.get_running_loop().create_task(clock.sleep(3.0))
        await clock.until_asleep()
        sleeping.cancel()
        await asyncio.gather(sleeping, return_exceptions=True)
        assert clock.next_wake() is None

    asyncio.run(story())


def test_the_timers_of_a_loop_follow_its_clock() -> None:
    clock = Clock()
    rung: list[int] = []

    async def story() -> None:
        asyncio.get_running_loop().call_later(3600.0, rung.append, 1)
        await asyncio.sleep(0)
        assert rung == []
        clock.now += 3600.0
        for _ in range(2):  # one turn finds it due, the next calls it
            await asyncio.sleep(0)
        assert rung == [1]

    run_on(clock, story())


def test_a_running_clock_advances_by_itself_and_can_be_put_forward() -> None:
    clock = RunningClock()

    async def story() -> None:
        began = clock.now
        await clock.sleep(0.001)
        assert clock.now > began
        sleeping = asyncio.get_running_loop().create_task(clock.sleep(3600.0))
        await asyncio.sleep(0)
        clock.now += 3600.0
        await sleeping

    run_on(clock, story())


def test_a_clock_with_a_step_advances_at_each_reading() -> None:
    clock = Clock(1.0, each=0.5)
    assert [clock(), clock()] == [1.5, 2.0]


def test_delayed_calls_run_all_together_or_those_of_one_delay() -> None:
    later = Later()
    made: list[str] = []
    later(1.0, lambda: made.append("a"))
    later(2.0, lambda: later(1.0, lambda: made.append("b")))
    later.run_all_of(1.0)
    assert made == ["a"]
    later.run()
    assert made == ["a", "b"]
