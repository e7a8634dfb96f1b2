"""Batches come at once, below the chat's priority."""

from __future__ import annotations

from loadtests.sim.workloads.batches import LOW, Batches, batches


def test_a_batch_shares_its_instructions_and_comes_within_seconds() -> None:
    trace = batches(Batches(chats=400, batches=2, batch=300), 1)
    low = [each for each in trace.arrivals if each.priority == LOW]
    assert (len(low), len(trace.arrivals)) == (600, 1000)
    for part in (low[:300], low[300:]):
        assert len({each.units for each in part}) == 1
        assert part[-1].at_s - part[0].at_s < 2.0
    assert low[0].units != low[-1].units
    assert low[0].at_s > trace.arrivals[0].at_s and low[-1].at_s < trace.arrivals[-1].at_s
