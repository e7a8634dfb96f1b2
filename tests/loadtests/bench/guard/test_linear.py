"""Case E 21: every parser of bytes from outside is linear, by instruction count."""

from __future__ import annotations

import asyncio

import pytest

from loadtests.bench.guard.__main__ import obstacle
from loadtests.bench.guard.linear import excess, measured, play, sizes
from loadtests.bench.guard.script import Stage
from loadtests.bench.guard.wires import MemoryLoop
from loadtests.bench.guard.worst import CASES

PART = 16
"""Of 1 to 8 MiB: under callgrind the whole takes a quarter of an hour. `linear.py` counts it on request."""


@pytest.mark.realtime
@pytest.mark.skipif(bool(obstacle()), reason=obstacle())
def test_twice_the_bytes_cost_twice_the_instructions_for_every_parser() -> None:
    """Case E 21."""
    counts = measured(list(CASES), PART)
    assert excess(counts, PART) == []


def test_every_case_is_answered_and_leaves_nothing_behind() -> None:
    async def run() -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, MemoryLoop)
        stage = Stage("session_affinity")
        for name, case in CASES.items():
            assert await play(stage, loop.asked, case, sizes(name, PART)[0]) > 0, name
            loop.asked.clear()
        parts = stage.replica.parts
        assert not parts.network.admission.active
        assert parts.dataplane.listener.budget.used == 0
        await stage.replica.close()

    with asyncio.Runner(loop_factory=MemoryLoop) as runner:
        runner.run(run())


def test_growth_that_is_faster_than_the_bytes_is_named() -> None:
    name = "digits"
    assert excess({name: [1_000, 2_100, 3_900, 8_000]}, 16) == []
    quadratic = f"{name}: x 2.00, x 4.00, x 2.00 for twice the bytes each"
    assert excess({name: [1_000, 2_000, 8_000, 16_000]}, 16) == [quadratic]
    dear = 10**10
    assert excess({name: [dear, 2 * dear, 4 * dear, 8 * dear]}, 16) == [f"{name}: 152588 instructions for a byte"]
