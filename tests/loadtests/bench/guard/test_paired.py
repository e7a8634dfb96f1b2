"""Every arm plays the same requests, and what it adds is shown beside a plain one."""

from __future__ import annotations

import asyncio

from loadtests.bench.guard.paired import ARMS, PLAYED, measured, table
from loadtests.bench.guard.wires import MemoryLoop


def test_each_round_has_a_cost_of_each_arm() -> None:
    with asyncio.Runner(loop_factory=MemoryLoop) as runner:
        costs = runner.run(measured(PLAYED["whole 1.2 KB"], 2, 3, "http://127.0.0.1:1"))
    assert {arm: len(each) for arm, each in costs.items()} == dict.fromkeys(ARMS, 2)


def test_what_is_added_is_the_median_of_the_rounds() -> None:
    text = table(
        {"whole": {ARMS[0]: [100.0, 200.0, 150.0], ARMS[1]: [104.0, 230.0, 153.0], ARMS[2]: [100.0, 200.0, 150.0]}}
    )
    assert "+4.0" in text and "+2.7 %" in text
