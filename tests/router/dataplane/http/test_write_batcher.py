"""What a turn of the loop has to send goes out at its end, all of it, each connection once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from router.dataplane.http.write_batcher import ALONE, AT_ONCE, COMPANY, CROWD, WriteBatcher

ACTIVE = range(CROWD)
"""Requests under way, enough to wait for the end of a turn."""


class Line:
    """A sender that notes when it was asked."""

    def __init__(self, told: list[Line], then: Callable[[], object] = lambda: None) -> None:
        self._told = told
        self._then = then

    def flush(self) -> None:
        self._told.append(self)
        self._then()


async def turn() -> None:
    """One turn of the loop."""
    await asyncio.sleep(0)


def test_everybody_is_flushed_at_the_end_of_the_turn_in_order() -> None:
    async def run() -> None:
        told: list[Line] = []
        write_batcher, lines = WriteBatcher(ACTIVE), [Line(told) for _ in range(3)]
        for line in lines:
            write_batcher.note(line)
        assert told == []
        await turn()
        assert told == lines
        await turn()
        assert told == lines
        write_batcher.note(lines[0])
        await turn()
        assert told == [*lines, lines[0]]

    asyncio.run(run())


def test_many_do_not_wait_for_the_end_of_a_long_turn() -> None:
    async def run() -> None:
        told: list[Line] = []
        write_batcher, lines = WriteBatcher(ACTIVE), [Line(told) for _ in range(AT_ONCE + 1)]
        for line in lines:
            write_batcher.note(line)
        assert told == lines[:AT_ONCE]
        await turn()
        assert told == lines

    asyncio.run(run())


def test_what_a_flush_brings_goes_out_a_turn_later() -> None:
    async def run() -> None:
        told: list[Line] = []
        write_batcher = WriteBatcher(ACTIVE)
        late = Line(told)
        write_batcher.note(Line(told, lambda: write_batcher.note(late)))
        await turn()
        assert late not in told
        await turn()
        assert told[-1] is late

    asyncio.run(run())


def test_flushed_by_hand_nothing_is_left_for_the_end_of_the_turn() -> None:
    async def run() -> None:
        told: list[Line] = []
        write_batcher = WriteBatcher(ACTIVE)
        write_batcher.note(Line(told))
        write_batcher.flush()
        await turn()
        assert len(told) == 1

    asyncio.run(run())


def test_it_is_quiet_while_few_requests_are_under_way() -> None:
    assert WriteBatcher(ACTIVE[1:]).quiet()
    assert not WriteBatcher(ACTIVE).quiet()


def test_after_a_turn_without_company_some_are_sent_at_once_and_then_a_turn_is_waited_for_again() -> None:
    async def run() -> None:
        told: list[Line] = []
        write_batcher = WriteBatcher(ACTIVE)
        write_batcher.note(Line(told))
        await turn()
        assert [write_batcher.quiet() for _ in range(ALONE + 1)] == [True] * ALONE + [False]

    asyncio.run(run())


def test_after_a_turn_with_company_the_next_is_waited_for_as_well() -> None:
    async def run() -> None:
        told: list[Line] = []
        write_batcher = WriteBatcher(ACTIVE)
        for _ in range(COMPANY):
            write_batcher.note(Line(told))
        await turn()
        assert not write_batcher.quiet()

    asyncio.run(run())
