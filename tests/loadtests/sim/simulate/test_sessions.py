"""A turn begins after the previous answer, and a session's prompt grows with each turn."""

from __future__ import annotations

import pytest

from loadtests.sim.peers.lmetric import LMetric
from loadtests.sim.simulate.events import parse_event, schedule
from loadtests.sim.simulate.sessions import Shape, agentic, converse, sessions_of
from loadtests.sim.simulate.traces import Arrival, TraceError
from tests.fakes.simulated_world import UNIT, ToOnePod, arrival, trace, world

SHAPE = Shape(sessions=4, turns=5, shared_tokens=128, first_tokens=640, turn_tokens=64, answer_tokens=8, pause_s=0.5)


def test_sessions_share_only_the_beginning() -> None:
    sessions = agentic(SHAPE, UNIT)
    first = [session.turns[0].units for session in sessions]
    assert len({units[:2] for units in first}) == 1
    assert len({units[2] for units in first}) == len(first)
    assert len({session.turns[0].session for session in sessions}) == len(sessions)


def test_a_turn_contains_the_previous_one() -> None:
    for session in agentic(SHAPE, UNIT):
        for before, after in zip(session.turns, session.turns[1:], strict=False):
            assert after.prompt_tokens == before.prompt_tokens + SHAPE.turn_tokens
            assert after.units[: len(before.units)] == before.units


def test_the_next_turn_waits_for_the_answer_and_the_pause() -> None:
    sessions = agentic(SHAPE, UNIT, seed=5)
    here = world()
    outcomes = converse(here, sessions, LMetric(here, UNIT))
    assert len(outcomes) == SHAPE.sessions * SHAPE.turns
    for at, session in enumerate(sessions):
        turns = outcomes[at * SHAPE.turns : (at + 1) * SHAPE.turns]
        assert turns[0].at_s == pytest.approx(session.starts_s)
        for before, after, turn in zip(turns, turns[1:], session.turns[1:], strict=False):
            assert after.at_s == pytest.approx(before.at_s + before.e2e_s + turn.at_s)


def test_later_turns_find_the_earlier_ones_cached() -> None:
    here = world()
    outcomes = converse(here, agentic(SHAPE, UNIT), LMetric(here, UNIT))
    later = [each for at, each in enumerate(outcomes) if at % SHAPE.turns]
    assert sum(each.cached_tokens for each in later) > 0.8 * sum(each.prompt_tokens for each in later)


def test_a_turn_that_fits_no_pod_ends_only_its_session() -> None:
    here = world()
    shape = SHAPE._replace(sessions=2, turns=400)
    outcomes = converse(here, agentic(shape, UNIT), LMetric(here, UNIT))
    assert here.rejected == 2
    assert len(outcomes) == 2 * ((16_000 - 8 - 640) // 64 + 1)


def turn(at_s: float, session: str, think_s: float | None = None) -> Arrival:
    return arrival(at_s, 64, 2)._replace(session=session, think_s=think_s)


def test_a_traces_sessions_start_as_fast_as_the_rate_says_and_keep_their_think_times() -> None:
    recorded = trace(turn(10.0, "a"), turn(12.0, "b"), turn(20.0, "a", 3.0), turn(26.0, "b"), arrival(30.0))
    first, second, single = sessions_of(recorded, 2.0)
    assert [first.starts_s, second.starts_s, single.starts_s] == [5.0, 6.0, 15.0]
    assert [each.at_s for each in first.turns] == [0.0, 3.0]
    assert [each.at_s for each in second.turns] == [0.0, 14.0], "no think time: the time between the requests"
    assert len(single.turns) == 1


def test_a_trace_without_sessions_has_no_closed_loop() -> None:
    with pytest.raises(TraceError, match="a closed loop needs the requests' sessions"):
        sessions_of(trace(arrival(0.0)), 1.0)


def test_a_session_goes_on_after_a_turn_that_was_lost_with_its_pod() -> None:
    here, router = world(1), ToOnePod(0)
    schedule(here, router, [parse_event(each) for each in ("1:pod-0:fail", "2:pod-0:join")])
    recorded = trace(turn(0.0, "a")._replace(output_tokens=900), turn(1.0, "a", 5.0))
    counted: list[int] = []
    outcomes = converse(here, sessions_of(recorded, 1.0), router, counted.append)
    assert [each.at_s for each in outcomes] == [6.0]
    assert (here.lost, counted) == (1, [1, 2])
