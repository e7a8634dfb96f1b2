"""The writes of one turn of the loop go out at its end, all of them, each connection once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from router.dataplane.http.write_batcher import DIRECT_WRITES, MAX_BATCH, MIN_ACTIVE, WORTH_BATCHING, WriteBatcher

ACTIVE = range(MIN_ACTIVE)
"""Requests in flight, enough for writes to be batched."""


class Writer:
    """A writer that records when it was flushed."""

    def __init__(self, flushed: list[Writer], then: Callable[[], object] = lambda: None) -> None:
        self._flushed = flushed
        self._then = then

    def flush(self) -> None:
        self._flushed.append(self)
        self._then()


async def turn() -> None:
    """One turn of the loop."""
    await asyncio.sleep(0)


def test_all_are_flushed_at_the_end_of_the_turn_in_order() -> None:
    async def run() -> None:
        flushed: list[Writer] = []
        write_batcher, writers = WriteBatcher(ACTIVE), [Writer(flushed) for _ in range(3)]
        for writer in writers:
            write_batcher.add(writer)
        assert flushed == []
        await turn()
        assert flushed == writers
        await turn()
        assert flushed == writers
        write_batcher.add(writers[0])
        await turn()
        assert flushed == [*writers, writers[0]]

    asyncio.run(run())


def test_a_large_batch_is_sent_before_the_end_of_the_turn() -> None:
    async def run() -> None:
        flushed: list[Writer] = []
        write_batcher, writers = WriteBatcher(ACTIVE), [Writer(flushed) for _ in range(MAX_BATCH + 1)]
        for writer in writers:
            write_batcher.add(writer)
        assert flushed == writers[:MAX_BATCH]
        await turn()
        assert flushed == writers

    asyncio.run(run())


def test_writes_made_during_a_flush_go_out_a_turn_later() -> None:
    async def run() -> None:
        flushed: list[Writer] = []
        write_batcher = WriteBatcher(ACTIVE)
        late = Writer(flushed)
        write_batcher.add(Writer(flushed, lambda: write_batcher.add(late)))
        await turn()
        assert late not in flushed
        await turn()
        assert flushed[-1] is late

    asyncio.run(run())


def test_after_an_explicit_flush_nothing_is_left_for_the_end_of_the_turn() -> None:
    async def run() -> None:
        flushed: list[Writer] = []
        write_batcher = WriteBatcher(ACTIVE)
        write_batcher.add(Writer(flushed))
        write_batcher.flush()
        await turn()
        assert len(flushed) == 1

    asyncio.run(run())


def test_after_a_turn_with_few_writes_some_go_out_at_once_before_a_turn_is_batched_again() -> None:
    async def run() -> None:
        flushed: list[Writer] = []
        write_batcher = WriteBatcher(ACTIVE)
        write_batcher.add(Writer(flushed))
        await turn()
        assert [write_batcher.quiet() for _ in range(DIRECT_WRITES + 1)] == [True] * DIRECT_WRITES + [False]

    asyncio.run(run())


def test_after_a_turn_with_enough_writes_the_next_turn_is_batched_too() -> None:
    async def run() -> None:
        flushed: list[Writer] = []
        write_batcher = WriteBatcher(ACTIVE)
        for _ in range(WORTH_BATCHING):
            write_batcher.add(Writer(flushed))
        await turn()
        assert not write_batcher.quiet()

    asyncio.run(run())
