"""The users, with a real simulated pod: their requests, and that every failure is recorded."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest

from loadtests.sim.conversation import Shape
from loadtests.sim.simpod.faults import Fault
from loadtests.sim.simpod.fleet import SimPod
from loadtests.upgrade.load import LONG, STREAM, UNFINISHED, WHOLE, Load, Mix
from tests.fakes.waiting import until

MIX = Mix(
    talkers=4,
    askers=2,
    period_s=0.01,
    listeners=2,
    long_tokens=30,
    ramp_s=0.0,
    talk=Shape(system_tokens=50, max_tokens=4),
)


def loaded(fault: Fault | None = None, *, cut: bool = False) -> Load:
    """About 60 requests to a pod with that fault; `cut`: the run ends while requests are open."""

    async def run() -> Load:
        async with SimPod() as pod:
            pod.set_fault(fault)
            load = Load("127.0.0.1", pod.port, MIX)
            running = asyncio.get_running_loop().create_task(load.run())
            await until(lambda: all(load.open.values()) if cut else len(load.records) >= 60)
            if cut:
                running.cancel()
                await asyncio.wait({running})
            else:
                load.no_more.set()
                await running
            return load

    return asyncio.run(run())


def test_conversations_and_long_streams_are_answered_whole() -> None:
    load = loaded()
    assert {record.fault for record in load.records} == {""}
    kinds = Counter(record.kind for record in load.records)
    assert min(kinds[WHOLE], kinds[STREAM], kinds[LONG]) > 0
    assert set(load.open.values()) == {0}
    assert all(record.started_at < record.first_at <= record.ended_at for record in load.records)
    assert all(record.usage.completion_tokens == 4 for record in load.records if record.kind != LONG)


def test_later_turns_find_the_earlier_ones_in_the_cache() -> None:
    assert any(record.usage.cached_tokens > 0 for record in loaded().records)


@pytest.mark.parametrize(
    ("fault", "faults"),
    [
        (Fault(kind="http_503", rate=0.5), {"", "http_503"}),
        (Fault(kind="truncated_sse", rate=0.5), {"", "truncated"}),
        (Fault(kind="close_before_first_byte", rate=0.5), {"", "no_answer"}),
    ],
    ids=lambda given: given.kind if isinstance(given, Fault) else "",
)
def test_a_failure_is_recorded_once_and_not_retried(fault: Fault, faults: set[str]) -> None:
    assert {record.fault for record in loaded(fault).records} == faults


def test_a_request_open_when_the_run_is_cut_is_not_a_success() -> None:
    load = loaded(cut=True)
    assert {UNFINISHED} <= {record.fault for record in load.records} <= {"", UNFINISHED}
