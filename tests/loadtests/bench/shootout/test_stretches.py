"""Stretches hold the reporting half's requests, and each as often as the trace has it."""

from __future__ import annotations

from pathlib import Path

import pytest

from loadtests.bench.scheduling.halves import half_of
from loadtests.bench.scheduling.play import TRACES
from loadtests.bench.shootout.stretches import FIRST_S, TOKEN_S, TRAFFIC, Cut, closed_loop, open_loop, stretch
from loadtests.sim.simulate.traces import Arrival, Trace, read_trace


def arrival(at_s: float, session: str = "", think_s: float = 0.0, output: int = 10) -> Arrival:
    return Arrival(at_s, 100, output, (1,), session, think_s=think_s)


def test_conversations_come_by_the_clock_at_the_rate_from_the_part_s_begin() -> None:
    sessions = open_loop([arrival(float(at)) for at in range(40)], Cut(1, 3, 5.0, 2.0))
    assert [session.starts_s for session in sessions] == [at / 2 for at in range(10)]
    assert {len(session.turns) for session in sessions} == {1}


def test_agents_wait_for_their_answers_and_a_part_of_their_pauses() -> None:
    arrivals = [arrival(0.0, "a", 9.0), arrival(5.0, "b", 7.0), arrival(60.0, "a", 8.0), arrival(99.0, "a", 4.0)]
    first, second = closed_loop(arrivals, Cut(1, 1, 60.0, 4.0))
    assert [turn.at_s for turn in first.turns] == [0.0, 2.0, 1.0]
    assert (first.starts_s, second.starts_s) == (0.0, 10.0)
    assert [turn.at_s for turn in second.turns] == [0.0]


def test_each_part_begins_further_on_in_every_session() -> None:
    arrivals = [arrival(float(at), "ab"[at % 2], output=at) for at in range(12)]
    begins = [[s.turns[0].output_tokens for s in closed_loop(arrivals, Cut(n, 3, 60.0, 1.0))] for n in (1, 2, 3)]
    assert begins == [[0, 1], [4, 5], [8, 9]]


def test_a_session_is_cut_where_the_stretch_would_end() -> None:
    turn_s = FIRST_S + 100 * TOKEN_S
    arrivals = [arrival(0.0, "a", 0.0, 100) for _ in range(9)]
    (session,) = closed_loop(arrivals, Cut(1, 1, 3.5 * turn_s, 1.0))
    assert len(session.turns) == 4


def test_nothing_of_the_tuning_half_is_played() -> None:
    trace = Trace("t", 512, [arrival(float(at), f"s{at % 7}", output=at + 1) for at in range(70)])
    allowed = {each.output_tokens for each in half_of(trace, "report").arrivals}
    played = {
        turn.output_tokens
        for session in stretch("agents", trace, Cut(1, 1, 1e6, 1.0)).sessions
        for turn in session.turns
    }
    assert played == allowed


@pytest.mark.parametrize("traffic", [*TRAFFIC])
def test_the_recorded_traffic_has_enough_requests_for_each_stretch(traffic: str) -> None:
    kind = TRAFFIC[traffic]
    trace = read_trace(Path(TRACES) / kind.file)
    parts = [stretch(traffic, trace, Cut(number, 3, 180.0, kind.rate)) for number in (1, 2, 3)]
    assert min(part.requests for part in parts) > 200
    assert parts[1].name == f"{traffic} 2"
