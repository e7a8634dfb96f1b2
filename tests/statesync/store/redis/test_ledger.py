"""Own numbers, and the updates that are not sent yet."""

from __future__ import annotations

from schedulers.types import PodId
from statesync.store.redis.ledger import PER_FLUSH, PLACEMENTS, REPORT_S, PendingUpdates, UpdateBatch
from statesync.types import EngineReport, InflightNumbers

A, B, C = PodId("a"), PodId("b"), PodId("c")


def n(count: int) -> InflightNumbers:
    return InflightNumbers(count, count, count, count)


def idle(dispatched: int) -> InflightNumbers:
    return InflightNumbers(dispatched=dispatched)


def taken(pending: PendingUpdates, full: bool = False) -> UpdateBatch:
    batch = pending.take(1.0, full)
    assert batch is not None
    return batch


def test_pending_updates_wake_their_sender_with_the_first_change_after_each_take() -> None:
    woken: list[int] = []
    pending = PendingUpdates()
    pending.wake = lambda: woken.append(1)
    pending.announce(A, n(1))
    pending.announce(A, n(2))
    pending.placed(A, [1])
    pending.report(A, EngineReport(), 0.0)
    assert len(woken) == 1
    assert taken(pending).numbers == {A: n(2)}
    assert pending.take(1.0, full=False) is None
    pending.forgot(A)
    assert len(woken) == 2


def test_a_dispatch_among_less_urgent_updates_wakes_the_sender_again() -> None:
    woken: list[bool] = []
    pending = PendingUpdates()
    pending.announce(A, n(2))
    taken(pending)
    pending.wake = lambda: woken.append(pending.urgent)
    pending.announce(A, InflightNumbers(requests=1, dispatched=2))
    pending.report(A, EngineReport(), 0.0)
    pending.announce(A, idle(2))
    assert woken == [False]
    pending.announce(A, InflightNumbers(requests=1, dispatched=3))
    pending.announce(B, n(1))
    pending.placed(A, [1])
    pending.announce(A, idle(3))
    assert woken == [False, True]
    taken(pending)
    assert not pending.urgent
    pending.announce(A, idle(3))
    assert woken == [False, True, False]


def test_a_batch_holds_the_last_of_each_pod_and_all_placements_in_order() -> None:
    pending = PendingUpdates()
    pending.announce(A, n(1))
    pending.announce(B, n(5))
    pending.announce(A, n(2))
    pending.placed(A, [1])
    pending.placed(A, [])
    pending.forgot(A)
    pending.report(A, EngineReport(queued=1), 3.0)
    pending.report(A, EngineReport(queued=2), 4.0)
    batch = taken(pending)
    assert batch.numbers == {A: n(2), B: n(5)}
    assert list(batch.placements) == [(A, [1]), (A, ())]
    assert batch.reports == {A: (EngineReport(queued=2), 4.0)}


def test_what_was_served_is_sent_once_by_its_last_count_and_again_if_the_batch_was_not_sent() -> None:
    pending = PendingUpdates()
    pending.served("a", 1)
    pending.served("a", 5)
    pending.served("b", 2)
    batch = pending.take(0.0, full=False)
    assert batch is not None
    assert batch.served == {"a": 5, "b": 2}
    pending.served("a", 9)
    pending.give_back(batch)
    again = pending.take(0.0, full=False)
    assert again is not None
    assert again.served == {"a": 9, "b": 2}
    assert pending.take(0.0, full=False) is None


def test_pods_whose_models_changed_are_named_once_and_again_if_the_batch_was_not_sent() -> None:
    pending = PendingUpdates()
    pending.models_changed(A)
    pending.models_changed(A)
    batch = taken(pending)
    assert set(batch.models) == {A}
    pending.models_changed(B)
    pending.give_back(batch)
    assert set(taken(pending).models) == {A, B}
    assert not taken(pending, full=True).models


def test_a_full_batch_also_holds_what_was_sent_before() -> None:
    pending = PendingUpdates()
    pending.announce(A, n(1))
    pending.report(A, EngineReport(queued=1), 3.0)
    taken(pending)
    pending.announce(B, n(2))
    batch = taken(pending, full=True)
    assert batch.full
    assert batch.numbers == {A: n(1), B: n(2)}
    assert batch.reports == {A: (EngineReport(queued=1), 3.0)}
    assert taken(PendingUpdates(), full=True).numbers == {}


def test_placements_that_were_not_sent_are_first_in_the_next_batch() -> None:
    pending = PendingUpdates()
    pending.placed(A, [1])
    pending.placed(A, [2])
    batch = taken(pending)
    pending.placed(A, [3])
    pending.give_back(batch)
    assert pending.waiting
    assert [blocks for _, blocks in taken(pending).placements] == [[1], [2], [3]]


def test_placements_are_bounded_and_the_oldest_are_dropped() -> None:
    pending = PendingUpdates()
    for number in range(PLACEMENTS + 3):
        pending.placed(A, [number])
    assert len(pending.placements) == PLACEMENTS
    assert pending.placements[0] == (A, [3])
    assert pending.placements_dropped == 3
    batch = taken(pending)
    pending.give_back(batch)
    assert (len(pending.placements), pending.placements_dropped) == (PLACEMENTS, 3)
    batch = taken(pending)
    pending.placed(A, [7])
    pending.give_back(batch)
    assert (len(pending.placements), pending.placements_dropped) == (PLACEMENTS, 4)
    assert pending.placements[0] == (A, [4])


def test_many_placements_are_sent_in_parts() -> None:
    pending = PendingUpdates()
    for number in range(PER_FLUSH + 1):
        pending.placed(A, [number])
    assert len(taken(pending).placements) == PER_FLUSH
    assert pending.waiting
    assert list(taken(pending).placements) == [(A, [PER_FLUSH])]
    assert not pending.waiting


def test_pods_that_stay_idle_are_dropped_and_busy_ones_never() -> None:
    pending = PendingUpdates()
    pending.announce(A, idle(3))
    pending.announce(B, n(1))
    taken(pending)
    pending.sweep(0.0)
    assert pending.numbers == {A: idle(3), B: n(1)}
    pending.announce(C, idle(1))
    pending.sweep(60.0)
    batch = taken(pending)
    assert list(batch.dropped) == [A]
    assert pending.numbers == {B: n(1), C: idle(1)}


def test_old_reports_are_not_sent_again() -> None:
    pending = PendingUpdates()
    pending.report(A, EngineReport(), 0.0)
    pending.report(B, EngineReport(), REPORT_S)
    pending.sweep(REPORT_S + 1.0)
    assert set(pending.reports) == {B}
