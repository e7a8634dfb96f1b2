"""The order of the queue."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from loadtests.sim.engine.types import EngineRequest, Live
from loadtests.sim.engine.waiting import WaitingQueue


def live(name: int, priority: int = 0) -> Live:
    return Live(EngineRequest(name, 1, (), 1, 0.0, priority))


def order(queue: WaitingQueue) -> list[int | str]:
    return [each.request.id for each in queue.values()]


def test_a_preempted_request_is_the_next_one() -> None:
    queue = WaitingQueue()
    queue.add(live(1))
    queue.put_back(live(2))
    assert order(queue) == [2, 1]
    assert queue.head().request.id == 2


def test_by_priority_a_preempted_request_is_the_next_one_of_its_level() -> None:
    queue = WaitingQueue(by_priority=True)
    for name, level in ((1, 0), (2, 1)):
        queue.add(live(name, level))
    queue.put_back(live(3, 1))
    assert order(queue) == [1, 3, 2]


def test_a_request_that_left_is_no_longer_there() -> None:
    queue = WaitingQueue(by_priority=True)
    queue.add(live(1, 4))
    assert 1 in queue
    assert queue.pop(1) is not None
    assert queue.pop(1) is None
    assert (len(queue), order(queue), 1 in queue) == (0, [], False)


@given(st.lists(st.integers(-2, 2)), st.booleans())
def test_heads_come_in_the_order_of_all(levels: list[int], by_priority: bool) -> None:
    queue = WaitingQueue(by_priority=by_priority)
    for name, level in enumerate(levels):
        queue.add(live(name, level))
    expected = sorted(range(len(levels)), key=lambda name: levels[name] if by_priority else 0)
    assert order(queue) == expected
    taken = []
    while len(queue):
        taken.append(queue.head().request.id)
        queue.pop(taken[-1])
    assert taken == expected
