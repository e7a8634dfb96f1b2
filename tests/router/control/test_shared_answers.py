"""However many ask, answers are made one at a time, with rests, and each caller gets one begun after it asked."""

from __future__ import annotations

import asyncio
import itertools

import pytest

from router.control.shared_answers import MOST_REST_S, REST, SharedAnswers
from tests.fakes.virtual_time import Clock


class World:
    """Numbered answers, each made in `took_s` of a clock that only they and rests advance."""

    def __init__(self, took_s: float = 0.1) -> None:
        self.clock = Clock()
        self.took_s = took_s
        self.numbers = itertools.count(1)
        self.made = 0
        self.begun = asyncio.Event()
        self.rests: list[float] = []
        self.shared = SharedAnswers[int](self.clock, self.sleep)

    async def sleep(self, seconds: float) -> None:
        self.rests.append(round(seconds, 6))
        self.clock.now += seconds
        await asyncio.sleep(0)

    async def make(self) -> int:
        assert not self.made, "two at a time"
        self.made += 1
        self.begun.set()
        for _ in range(5):
            await asyncio.sleep(0)
        self.clock.now += self.took_s
        self.made -= 1
        return next(self.numbers)

    def ask(self, asked: str = "a") -> asyncio.Task[int]:
        return asyncio.get_running_loop().create_task(self.shared.get(asked, self.make))


def test_those_who_ask_before_it_is_begun_share_an_answer_and_those_who_ask_later_do_not() -> None:
    async def scene() -> None:
        world = World()
        first = [world.ask() for _ in range(50)]
        await world.begun.wait()
        later = [world.ask() for _ in range(50)]
        assert await asyncio.gather(*first) == [1] * 50
        assert await asyncio.gather(*later) == [2] * 50
        assert await world.ask() == 3

    asyncio.run(scene())


def test_different_questions_have_answers_of_their_own_one_after_the_other() -> None:
    async def scene() -> None:
        world = World()
        assert await asyncio.gather(*map(world.ask, "abab")) == [1, 2, 1, 2]

    asyncio.run(scene())


@pytest.mark.parametrize(("took_s", "rest_s"), [(0.1, 0.1 * REST), (5.0, MOST_REST_S), (0.0, 0.0)])
def test_the_loop_rests_after_each_answer(took_s: float, rest_s: float) -> None:
    async def scene() -> None:
        world = World(took_s)
        for _ in range(3):
            await world.ask()
        assert world.rests == pytest.approx([0.0, rest_s, rest_s])
        world.clock.now += 10.0
        await world.ask()
        assert world.rests[-1] == 0.0

    asyncio.run(scene())


def test_a_client_that_leaves_takes_nothing_from_the_others_and_all_who_share_it_see_a_failure() -> None:
    async def scene() -> None:
        world = World()
        leaving, staying = world.ask(), world.ask()
        await asyncio.sleep(0)
        leaving.cancel()
        assert await staying == 1

        async def fail() -> int:
            raise OSError("no answer")

        failed = await asyncio.gather(*(world.shared.get("a", fail) for _ in range(2)), return_exceptions=True)
        assert [str(each) for each in failed] == ["no answer"] * 2
        assert await world.ask() == 2

    asyncio.run(scene())
