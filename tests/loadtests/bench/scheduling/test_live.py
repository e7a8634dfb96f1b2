"""What is played in real time is a slice of the trace."""

from __future__ import annotations

from loadtests.bench.scheduling.live import slice_of
from loadtests.sim.simulate.traces import Arrival, Trace


def test_a_slice_is_taken_from_the_trace_at_its_rate() -> None:
    trace = Trace("t", 512, [Arrival(float(at), 10, 1) for at in range(10)])
    assert [each.at_s for each in slice_of(trace, 2.0, 3.0).arrivals] == [0.0, 0.5, 1.0, 1.5, 2.0, 2.5]
