from __future__ import annotations

from schedulers.types import Pod, PodId
from statesync.load.learned_limit import NO_LIMIT, PROBE, STALE_S, SUSTAINED, WINDOW, LearnedLimit
from statesync.load.view import LoadView
from statesync.types import LEARNED, EngineReport
from tests.fakes.trial_inputs import request
from tests.fakes.virtual_time import Clock


def overloaded(limit: LearnedLimit, capacity: int, reports: int, foreign: int = 0, demand: int = 10_000) -> list[int]:
    """An engine that runs this many, of which others send some, and a gateway that always has more: the limits."""
    found = []
    for _ in range(reports):
        inflight = min(demand, limit.value)
        running = min(capacity, inflight + foreign)
        limit.read(running, inflight + foreign - running, inflight, foreign)
        found.append(limit.value)
    return found


def test_the_limit_is_what_runs_while_requests_wait_and_a_little_more() -> None:
    found = overloaded(LearnedLimit(), 256, 8)
    assert found == [NO_LIMIT] * (SUSTAINED - 1) + [272] * (9 - SUSTAINED)


def test_an_engine_in_which_nothing_waits_has_no_limit() -> None:
    assert set(overloaded(LearnedLimit(), 256, 100, demand=200)) == {NO_LIMIT}


def test_a_quiet_time_does_not_lower_the_limit() -> None:
    limit = LearnedLimit()
    overloaded(limit, 256, 8)
    assert set(overloaded(limit, 256, 1000, demand=3)) == {272}


def test_requests_of_others_take_places() -> None:
    assert overloaded(LearnedLimit(), 256, 8, foreign=100)[-1] == 172
    assert overloaded(LearnedLimit(), 16, 8, foreign=100)[-1] == 1


def test_an_engine_that_takes_more_than_before_gets_more_with_each_report() -> None:
    limit = LearnedLimit()
    overloaded(limit, 16, 8)
    found = overloaded(limit, 256, 12)
    assert found[0] == 24 and found[-1] >= 256
    assert found == sorted(found)


def test_an_engine_that_takes_less_than_before_gets_less_after_two_windows() -> None:
    limit = LearnedLimit()
    overloaded(limit, 256, 8)
    assert overloaded(limit, 64, 2 * WINDOW + 1)[-1] == 68


def test_a_limit_that_is_too_low_because_others_wait_for_an_adapter_is_found_out_by_the_probe() -> None:
    limit = LearnedLimit()
    for _ in range(WINDOW + 1):
        running = min(limit.value, 400) - 3 if limit.value < NO_LIMIT else 10
        limit.read(running, 3, min(limit.value, 400), 0)  # three wait whatever runs
    assert limit.value > 12 * 5 // 4


def test_a_probe_is_over_after_some_reports() -> None:
    found = overloaded(LearnedLimit(), 64, WINDOW + 2)
    assert found[-2 - PROBE :] == [85] * PROBE + [68, 68]


def test_a_pod_is_full_at_its_learned_limit_and_waiting_requests_are_told_when_it_grows() -> None:
    clock, called = Clock(), list[str]()
    view = LoadView(clock)
    view.set_pods("main", [Pod(PodId("a"), "a", max_inflight=LEARNED)])
    view.on_headroom = called.append
    charges = [view.reserve(PodId("a"), request()) for _ in range(8)]
    for _ in range(SUSTAINED):
        view.report(PodId("a"), EngineReport(queued=4, running=4))
    assert (view.status(PodId("a")).limit, view.room("main")[0]) == (6, 0)
    view.report(PodId("a"), EngineReport(queued=0, running=8))
    assert (view.status(PodId("a")).limit, called) == (12, ["main"])
    clock.now += STALE_S + 1
    view.release(charges.pop())
    assert view.status(PodId("a")).limit is None, "nothing says any more that it is full"
