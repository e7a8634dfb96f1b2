"""Workloads by name; a run is named by its workload, half, policy and rate."""

from __future__ import annotations

import pytest

from loadtests.bench.scheduling.play import TRACES
from loadtests.bench.scheduling.suite import NAMES, suite_runs, workload
from loadtests.sim.simulate.runs import Case
from loadtests.sim.simulate.traces import TraceError


@pytest.mark.parametrize("name", NAMES)
def test_each_workload_has_two_halves(name: str) -> None:
    tune, report = (workload(TRACES, name, half, 0) for half in ("tune", "report"))
    assert len(tune.arrivals) > 1000 and len(report.arrivals) > 1000
    assert tune.arrivals[0].at_s == report.arrivals[0].at_s == 0.0


def test_an_unknown_workload_is_an_error_with_all_names() -> None:
    with pytest.raises(TraceError, match="nothing: no such workload; there are conversation, agentic"):
        workload(TRACES, "nothing", "tune", 0)


def test_every_policy_is_played_on_every_workload_at_every_rate() -> None:
    runs = list(suite_runs(["a", "b"], ["p", "q", "r"], [1.0, 2.0], "tune", Case(pods=64)))
    assert len(set(runs)) == 12
    assert {(run.half, run.case.pods) for run in runs} == {("tune", 64)}
