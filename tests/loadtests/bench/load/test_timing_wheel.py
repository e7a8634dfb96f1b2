"""The timing wheel, turned by the test and by a loop."""

from __future__ import annotations

import asyncio

from loadtests.bench.load.timing_wheel import Wheel


class Steps:
    """Takes a number of steps, and records the wheel's position at each."""

    def __init__(self, count: int) -> None:
        self.left = count
        self.done = asyncio.Event()

    def advance(self) -> bool:
        self.left -= 1
        if not self.left:
            self.done.set()
        return self.left > 0


def test_an_entry_advances_once_per_gap_until_it_is_done() -> None:
    loop = asyncio.new_event_loop()
    wheel = Wheel(loop, gap_s=0.01)
    thing = Steps(3)
    wheel.add(thing)
    seen = []
    for position in range(1, 35):
        wheel.turn_to(position)
        seen.append(thing.left)
    loop.close()
    assert [seen[8], seen[9], seen[18], seen[19], seen[28], seen[29]] == [3, 2, 2, 1, 1, 0]
    assert wheel.waiting == 0


def test_a_late_entry_catches_up_with_every_missed_step() -> None:
    loop = asyncio.new_event_loop()
    wheel = Wheel(loop, gap_s=0.01)
    thing = Steps(9)
    wheel.add(thing)
    wheel.turn_to(55)
    loop.close()
    assert thing.left == 4


def test_a_loop_turns_it_paced_or_at_full_speed_and_again_after_a_rest() -> None:
    async def run(gap_s: float) -> None:
        wheel = Wheel(asyncio.get_running_loop(), gap_s)
        for _ in range(2):
            things = [Steps(count) for count in (1, 5, 9)]
            for thing in things:
                wheel.add(thing)
            await asyncio.gather(*(thing.done.wait() for thing in things))
            await asyncio.sleep(0)
        assert wheel.waiting == 0

    for gap_s in (0.0, 0.002):
        asyncio.run(asyncio.wait_for(run(gap_s), 60))
