"""Halves of a workload share nothing, and together they are the whole of it."""

from __future__ import annotations

from loadtests.bench.scheduling.halves import half_of, seed_of
from loadtests.sim.simulate.traces import Arrival, Trace


def trace(arrivals: list[Arrival]) -> Trace:
    return Trace("t", 512, arrivals)


def test_sessions_stay_whole_and_are_in_one_half_only() -> None:
    arrivals = [Arrival(float(at), 10, 1, (), f"session-{at % 20}") for at in range(100)]
    tune, report = (half_of(trace(arrivals), half).arrivals for half in ("tune", "report"))
    assert len(tune) + len(report) == 100
    assert {each.session for each in tune}.isdisjoint({each.session for each in report})
    assert tune and report


def test_a_trace_without_sessions_is_cut_once() -> None:
    arrivals = [Arrival(float(at), at, 1) for at in range(10)]
    tune, report = (half_of(trace(arrivals), half).arrivals for half in ("tune", "report"))
    assert [each.prompt_tokens for each in tune] == [0, 1, 2, 3, 4]
    assert [each.prompt_tokens for each in report] == [5, 6, 7, 8, 9]


def test_each_half_begins_at_zero_with_its_own_gaps() -> None:
    arrivals = [Arrival(100.0 + 2 * at, 10, 1) for at in range(6)]
    assert [each.at_s for each in half_of(trace(arrivals), "report").arrivals] == [0.0, 2.0, 4.0]


def test_seeds_of_the_halves_are_disjoint() -> None:
    tune, report = ({seed_of(seed, half) for seed in range(50)} for half in ("tune", "report"))
    assert tune.isdisjoint(report)
