"""Time advances from event to event, and every request that fits is served."""

from __future__ import annotations

from itertools import pairwise

import pytest

from loadtests.sim.engine.model import Engine, EngineRequest
from loadtests.sim.simulate.traces import Arrival
from loadtests.sim.simulate.world import World
from tests.fakes.simulated_world import SMALL, arrival, chain, prompt, trace, world


class ToOne:
    """Routes to one pod and records each call."""

    def __init__(self, pod: int = 0) -> None:
        self.pod = pod
        self.calls: list[str] = []
        self.world: World | None = None

    def route(self, number: int, arrival: Arrival, /) -> int:
        self.calls.append(f"route {number}")
        return self.pod

    def first_token(self, number: int, /) -> None:
        self.calls.append(f"first {number}")

    def finished(self, number: int, cached_tokens: int | None, /) -> None:
        self.calls.append(f"end {number} cached {cached_tokens}")


def test_one_request_takes_the_engines_time() -> None:
    (outcome,) = world().play(trace(arrival(5.0, 640, 11)), ToOne(1))
    assert outcome.pod == 1
    assert outcome.at_s == 5.0
    assert outcome.ttft_s == pytest.approx(0.66)  # 640 tokens at 1 ms in two steps of 10 ms
    assert outcome.e2e_s == pytest.approx(0.76)
    assert outcome.itl_s == pytest.approx(0.01)


def test_a_router_is_called_once_for_each_request_with_the_cached_tokens() -> None:
    router = ToOne()
    units = chain(1, 8)
    world().play(trace(prompt(*units), prompt(*units, at_s=10.0)), router)
    assert router.calls == ["route 0", "first 0", "end 0 cached 0", "route 1", "first 1", "end 1 cached 512"]


def test_taking_decode_steps_together_changes_nothing() -> None:
    arrivals = [arrival(0.3 * n, 100 + 37 * n, 5 + 11 * n) for n in range(30)]
    outcomes = world(1).play(trace(*arrivals), ToOne())
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
    router = ToOne()
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
    here.play(trace(arrival(0.0), arrival(5.0)), ToOne())
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
    here, router = world(), ToOne()
    here.on_end = lambda number: here.at(here.now + 1.0, lambda: again(number + 1)) if number < 3 else None

    def again(number: int) -> None:
        here.arrive(number, arrival(0.0), router)

    here.at(0.0, lambda: again(0))
    outcomes = here.settle()
    pauses = [after.at_s - before.at_s - before.e2e_s for before, after in pairwise(outcomes)]
    assert pauses == pytest.approx([1.0] * 3)
    assert here.open == 0


def test_a_leap_in_a_closed_loop_does_not_skip_an_arrival() -> None:
    here, router = world(1), ToOne()
    here.at(0.0, lambda: here.arrive(0, arrival(0.0, 64, 1000), router))
    here.at(1.0, lambda: here.arrive(1, arrival(0.0, 64, 1), router))
    _, late = here.settle()
    assert late.at_s == 1.0
    assert late.ttft_s < 0.1
