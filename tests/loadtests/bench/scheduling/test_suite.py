"""Workloads by name; loads are of the rate that saturates the fleet."""

from __future__ import annotations

import pytest

from loadtests.bench.scheduling.play import TRACES
from loadtests.bench.scheduling.saturation import saturation
from loadtests.bench.scheduling.suite import NAMES, Point, suite_run, workload
from loadtests.sim.simulate.runs import Case
from loadtests.sim.simulate.traces import TraceError


@pytest.mark.parametrize("name", [pytest.param(name, marks=[pytest.mark.slow] * (name != "rag")) for name in NAMES])
def test_each_workload_has_two_halves(name: str) -> None:
    tune, report = (workload(TRACES, name, half, 0) for half in ("tune", "report"))
    assert len(tune.arrivals) > 1000 and len(report.arrivals) > 1000
    assert tune.arrivals[0].at_s == report.arrivals[0].at_s == 0.0


def test_an_unknown_workload_is_an_error_with_all_names() -> None:
    with pytest.raises(TraceError, match="nothing: no such workload; there are conversation, agentic"):
        workload(TRACES, "nothing", "tune", 0)


def test_a_larger_fleet_is_loaded_in_proportion() -> None:
    small, large = (suite_run(Point("rag", pods, 0.5), "report", "oracle", Case(seed=4)) for pods in (8, 64))
    assert small.case.rate == pytest.approx(saturation("rag", "report").rate / 2)
    assert large.case.rate == pytest.approx(8 * small.case.rate)
    assert (small.case.pods, large.case.pods) == (8, 64)
    assert (small.half, small.case.seed) == ("report", 4)
    assert suite_run(Point("rag", 8, 0.5), "tune", "oracle", Case(), 10).requests == 10
