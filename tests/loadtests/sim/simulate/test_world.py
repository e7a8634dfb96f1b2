"""Time advances from event to event, and every request that fits is served."""

from __future__ import annotations

from itertools import pairwise

import pytest

from loadtests.sim.engine.model import Engine, EngineRequest
from loadtests.sim.simulate.traces import Arrival
from loadtests.sim.simulate.world import World
from tests.fakes.simulated_world import SMALL, UNIT, ToOnePod, arrival, chain, prompt, trace, world


def test_one_request_takes_the_engines_time() -> None:
    (outcome,) = world().play(trace(arrival(5.0, 640, 11)), ToOnePod(1))
    assert outcome.pod == 1
    assert outcome.at_s == 5.0
    assert outcome.ttft_s == pytest.approx(0.66)  # 640 tokens at 1 ms in two steps of 10 ms
    assert outcome.e2e_s == pytest.approx(0.76)
    assert outcome.itl_s == pytest.approx(0.01)


def test_a_router_is_called_once_for_each_request_with_the_cached_tokens() -> None:
    router = ToOnePod(0)
    units = chain(1, 8)
    world().play(trace(prompt(*units), prompt(*units, at_s=10.0)), router)
    assert router.calls == ["route 0", "first 0", "end 0 cached 0", "route 1", "first 1", "end 1 cached 512"]


def test_taking_decode_steps_together_changes_nothing() -> None:
    arrivals = [arrival(0.3 * n, 100 + 37 * n, 5 + 11 * n) for n in range(30)]
    outcomes = world(1).play(trace(*arrivals), ToOnePod(0))
    first, last = step_by_step(arrivals)
    assert [each.ttft_s for each in outcomes] == pytest.approx(first)
    assert [each.e2e_s for each in outcomes] == pytest.approx(last)


def step_by_step(arrivals: list[Arrival]) -> tuple[list[float], list[float]]:
    """The same run, one step at a time."""
    engine, now, left = Engine(SMALL, unit_tokens=64), 0.0, list(enumerate(arrivals))
    first: dict[int, float] = {}
    last: dict[int, float] = {}
    while len(last) < len(arrivals):
        while left and left[0][1].at_s <= now:
            number, each = left.pop(0)
            engine.submit(EngineRequest(number, each.prompt_tokens, each.units, each.output_tokens))
        step = engine.next_step(now)
        if step is None:
            now = left[0][1].at_s
            continue
        now += step.duration_s
        first.update({int(one): now for one in step.first_tokens})
        last.update({int(one): now for one in step.finished})
    took = [[ends[n] - each.at_s for n, each in enumerate(arrivals)] for ends in (first, last)]
    return took[0], took[1]


def test_a_request_that_fits_no_pod_is_refused_and_the_others_go_on() -> None:
    router = ToOnePod(0)
    here = world()
    outcomes = here.play(trace(arrival(0.0, 30_000), arrival(1.0)), router)
    assert [each.at_s for each in outcomes] == [1.0]
    assert here.rejected == 1
    assert here.was_rejected(0)
    assert router.calls[:2] == ["route 0", "end 0 cached None"]


def test_repeating_events_go_on_without_requests_and_do_not_prolong_a_run() -> None:
    here = world()
    seen: list[float] = []
    here.every(1.0, 0.5, lambda: seen.append(here.now))
    here.play(trace(arrival(0.0), arrival(5.0)), ToOnePod(0))
    assert seen[:6] == [0.5, 1.5, 2.5, 3.5, 4.5, 5.5]
    assert here.now < 6.5


def test_events_happen_in_the_order_of_their_times() -> None:
    here = world()
    seen: list[str] = []
    here.at(2.0, lambda: seen.append("late"))
    here.at(1.0, lambda: seen.append("first"))
    here.at(1.0, lambda: seen.append("second"))
    here.settle()
    assert seen == ["first", "second", "late"]
    assert here.clock() == 2.0


def test_a_closed_loop_may_add_an_arrival_at_any_event() -> None:
    here, router = world(), ToOnePod(0)
    here.on_end = lambda number: here.at(here.now + 1.0, lambda: again(number + 1)) if number < 3 else None

    def again(number: int) -> None:
        here.arrive(number, arrival(0.0), router)

    here.at(0.0, lambda: again(0))
    outcomes = here.settle()
    pauses = [after.at_s - before.at_s - before.e2e_s for before, after in pairwise(outcomes)]
    assert pauses == pytest.approx([1.0] * 3)
    assert here.open == 0


def test_a_leap_in_a_closed_loop_does_not_skip_an_arrival() -> None:
    here, router = world(1), ToOnePod(0)
    here.at(0.0, lambda: here.arrive(0, arrival(0.0, 64, 1000), router))
    here.at(1.0, lambda: here.arrive(1, arrival(0.0, 64, 1), router))
    _, late = here.settle()
    assert late.at_s == 1.0
    assert late.ttft_s < 0.1


# Engines that change


def test_a_slow_engine_takes_its_steps_that_much_longer_until_it_is_as_before() -> None:
    here = world(1)
    here.at(10.0, lambda: here.slow(0, 2.0))
    here.at(20.0, lambda: here.slow(0, 1.0))
    outcomes = here.play(trace(*[arrival(at_s, 640, 11) for at_s in (0.0, 10.0, 20.0)]), ToOnePod(0))
    assert [each.e2e_s for each in outcomes] == pytest.approx([0.76, 1.52, 0.76])


def test_decode_steps_taken_together_end_where_an_engine_changes() -> None:
    here = world(1)
    here.at(5.0, lambda: here.slow(0, 3.0))
    (outcome,) = here.play(trace(arrival(0.0, 64, 1000)), ToOnePod(0))
    assert outcome.e2e_s == pytest.approx(5.0 + 3 * (10.05 - 5.0), abs=0.1)


def test_requests_of_an_engine_that_fails_are_sent_again_unless_their_answer_had_begun() -> None:
    here, router = world(2), ToOnePod(0, then=1)
    here.at(1.0, lambda: here.fail(0, router))
    outcomes = here.play(trace(arrival(0.0, 64, 900), arrival(0.5, 2000), arrival(2.0)), router)
    assert router.calls[-8:-4] == ["cut 0", "reset 1", "route 2", "refused 2"]
    assert [each.pod for each in outcomes] == [1, 1]
    assert outcomes[0].ttft_s > 2.0, "counted from its arrival"
    assert (here.lost, here.retried, here.open) == (1, 2, 0)


def test_a_failed_engine_that_is_started_again_is_empty() -> None:
    here, router = world(1), ToOnePod(0)
    units = chain(1, 8)
    here.at(5.0, lambda: here.fail(0, router))
    here.at(6.0, lambda: here.start(0))
    outcomes = here.play(trace(*[prompt(*units, at_s=at_s) for at_s in (0.0, 3.0, 7.0)]), router)
    assert [each.cached_tokens for each in outcomes] == [0, 512, 0]
    assert here.started_at == [6.0]


def test_a_request_that_no_pod_takes_is_lost_and_its_closed_loop_goes_on() -> None:
    here, router = world(1), ToOnePod(0)
    ended: list[int] = []
    here.on_end = ended.append
    here.at(0.5, lambda: here.fail(0, router))
    assert here.play(trace(arrival(1.0)), router) == []
    assert (here.lost, ended) == (1, [0])


def test_answers_may_say_nothing_of_cached_tokens() -> None:
    router = ToOnePod(0)
    World([SMALL], UNIT, cached_in_usage=False).play(trace(arrival(0.0)), router)
    assert router.calls[-1] == "end 0 cached None"
