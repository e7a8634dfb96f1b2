"""Admission: what is counted, which requests wait, in which order, and that entries of gone requests are removed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.dataplane.admission import Admission
from router.dataplane.exchange import Exchange
from router.errors import Saturated, Shed
from router.settings import Limits
from schedulers.types import RequestInfo
from tests.fakes.bare_exchange import exchange, routed


def waits(priority: int = 0, pool: str = "main") -> Exchange:
    made = exchange()
    made.routed = routed(pool)
    made.routed.info = RequestInfo("id", "m", 1, 0, 0.0, 1, 0, priority=priority)
    return made


def served(gate: Admission, pool: str = "main", room: int = 1000) -> list[Exchange]:
    """The requests that leave the queue while there is `room`."""
    out: list[Exchange] = []

    def attempt(each: Exchange) -> bool:
        if len(out) == room:
            return False
        out.append(each)
        return True

    gate.serve(pool, attempt)
    return out


def test_an_admitted_request_is_counted_until_it_leaves() -> None:
    gate = Admission(Limits())
    one = exchange()
    gate.admit(one)
    assert gate.active == {one}
    gate.leave(one)
    gate.leave(one)
    assert gate.active == set()


def test_a_request_over_the_inflight_limit_is_shed() -> None:
    gate = Admission(Limits(max_inflight=2))
    first = exchange()
    gate.admit(first)
    gate.admit(exchange())
    with pytest.raises(Shed):
        gate.admit(exchange())
    gate.leave(first)
    gate.admit(exchange())


def test_each_pool_has_its_own_queue() -> None:
    gate = Admission(Limits())
    east, west = waits(pool="east"), waits(pool="west")
    gate.wait(east)
    gate.wait(west)
    assert served(gate, "west") == [west]
    assert served(gate, "west") == []
    assert served(gate, "east") == [east]
    assert served(gate, "nowhere") == []


def test_serving_stops_when_there_is_no_more_room() -> None:
    gate = Admission(Limits())
    line = [waits() for _ in range(5)]
    for each in line:
        gate.wait(each)
    assert served(gate, room=2) == line[:2]
    assert gate.queued == 3
    assert [each.queued for each in line] == [False, False, True, True, True]
    assert served(gate) == line[2:]


def test_a_full_queue_refuses_requests() -> None:
    gate = Admission(Limits(max_queue=1))
    gate.wait(waits())
    with pytest.raises(Saturated):
        gate.wait(waits())
    assert gate.queued == 1


def test_a_request_that_left_the_queue_is_skipped() -> None:
    gate = Admission(Limits())
    first, second = waits(), waits()
    gate.wait(first)
    gate.wait(second)
    gate.leave(first)
    assert gate.queued == 1
    assert served(gate) == [second]


def test_entries_of_requests_that_left_are_removed() -> None:
    gate = Admission(Limits())
    stays = [waits(priority) for priority in (1, 3, 2)]
    for each in stays:
        gate.wait(each)
    for _ in range(1000):
        passing = waits(5)
        gate.wait(passing)
        gate.leave(passing)
    assert gate.held < 100
    assert served(gate) == [stays[1], stays[2], stays[0]]
    assert gate.held == 0


@given(st.lists(st.tuples(st.integers(-3, 3), st.booleans()), max_size=200))
def test_the_order_is_priority_then_arrival_whichever_requests_leave(arrivals: list[tuple[int, bool]]) -> None:
    gate = Admission(Limits())
    line: list[tuple[int, int, Exchange]] = []
    for priority, leaves in arrivals:
        each = waits(priority)
        gate.wait(each)
        if leaves:
            gate.leave(each)
        else:
            line.append((-priority, len(line), each))
    assert served(gate) == [each for _, _, each in sorted(line, key=lambda entry: entry[:2])]
    assert gate.queued == 0


def test_a_request_in_two_queues_is_served_by_the_first_with_room() -> None:
    gate = Admission(Limits())
    both, one = waits(), waits()
    gate.wait(both, ["other"])
    gate.wait(one)
    assert gate.queued == 2
    assert served(gate, "other") == [both]
    assert served(gate) == [one]
    assert gate.queued == 0


def test_a_request_that_finds_no_room_keeps_its_place_in_both_queues() -> None:
    gate = Admission(Limits())
    first, second = waits(), waits()
    gate.wait(first, ["other"])
    gate.wait(second, ["other"])
    assert served(gate, "other", room=0) == []
    assert served(gate, "main", room=1) == [first]
    assert served(gate, "other") == [second]


def test_entries_of_requests_served_by_another_pool_are_removed() -> None:
    gate = Admission(Limits())
    for _ in range(500):
        gate.wait(waits(), ["stuck"])
        assert len(served(gate)) == 1
    assert gate.held < 150


def test_a_request_that_steps_out_is_skipped_until_it_steps_back() -> None:
    gate = Admission(Limits())
    made = waits()
    gate.wait(made)
    gate.step_out(made)
    assert gate.queued == 0
    gate.step_back(made)
    assert served(gate) == [made]


def of_model(model: str, priority: int = 0) -> Exchange:
    made = waits(priority)
    made.routed.call = made.routed.call._replace(model=model)
    return made


def test_each_model_is_served_in_order_until_it_is_full_and_what_joins_meanwhile_keeps_its_place() -> None:
    gate = Admission(Limits())
    waiting = [of_model(model) for model in "aabbcc"]
    for each in waiting:
        gate.wait(each)
    urgent, room, tries = of_model("c", priority=1), {"a": 0, "b": 1, "c": 9}, list[Exchange]()

    def attempt(each: Exchange) -> bool:
        tries.append(each)
        if len(tries) == 1:
            gate.wait(urgent)
        room[each.routed.call.model] -= 1
        return room[each.routed.call.model] >= 0

    gate.serve("main", attempt, mixed=True)
    assert tries == [waiting[0], *waiting[2:]]
    assert (gate.queued, gate.held) == (4, 4)
    assert served(gate) == [urgent, waiting[0], waiting[1], waiting[3]]
