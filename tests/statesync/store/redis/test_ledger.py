"""Own numbers, what of them is unsent, and the shares of others."""

from __future__ import annotations

from collections.abc import Mapping

from hypothesis import given
from hypothesis import strategies as st

from schedulers.types import PodId
from statesync.store.redis.ledger import PER_FLUSH, PLACEMENTS, REPORT_S, PendingUpdates, ReceivedNumbers, UpdateBatch
from statesync.store.redis.messages import SCHEMA, ChangesMessage
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


def said(
    seq: int, numbers: Mapping[PodId, InflightNumbers] | None = None, *, full: bool = False, token: str = "t"
) -> ChangesMessage:
    return ChangesMessage(v=SCHEMA, replica="r", token=token, seq=seq, full=full, numbers=numbers or {})


def test_the_outbox_wakes_its_sender_with_the_first_change_after_each_take() -> None:
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


def test_a_dispatch_among_what_is_less_urgent_wakes_the_sender_once_more() -> None:
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


def test_a_full_batch_holds_what_was_sent_before_too() -> None:
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


def test_placements_that_were_not_sent_come_first_again() -> None:
    pending = PendingUpdates()
    pending.placed(A, [1])
    pending.placed(A, [2])
    batch = taken(pending)
    pending.placed(A, [3])
    pending.give_back(batch)
    assert pending.waiting
    assert [blocks for _, blocks in taken(pending).placements] == [[1], [2], [3]]


def test_placements_are_bounded_and_the_oldest_go() -> None:
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


def test_many_placements_travel_a_part_at_a_time() -> None:
    pending = PendingUpdates()
    for number in range(PER_FLUSH + 1):
        pending.placed(A, [number])
    assert len(taken(pending).placements) == PER_FLUSH
    assert pending.waiting
    assert list(taken(pending).placements) == [(A, [PER_FLUSH])]
    assert not pending.waiting


def test_pods_that_stay_idle_are_left_out_and_busy_ones_never() -> None:
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


def test_old_reports_are_not_told_again() -> None:
    pending = PendingUpdates()
    pending.report(A, EngineReport(), 0.0)
    pending.report(B, EngineReport(), REPORT_S)
    pending.sweep(REPORT_S + 1.0)
    assert set(pending.reports) == {B}


def test_a_message_in_sequence_is_passed_on_as_it_is() -> None:
    shares = ReceivedNumbers()
    assert shares.hear(said(1, {A: n(1)}, full=True)) == ({A: n(1)}, False)
    assert shares.hear(said(2, {B: n(2)})) == ({B: n(2)}, False)
    assert shares.hear(said(2, {B: n(9)})) == ({}, False)


def test_a_full_message_ends_what_it_does_not_name_but_for_what_was_ever_sent() -> None:
    shares = ReceivedNumbers()
    shares.hear(said(1, {A: n(4), B: n(1)}, full=True))
    assert shares.hear(said(5, {B: n(2)}, full=True)) == ({A: idle(4), B: n(2)}, False)
    assert shares.hear(said(1, {C: n(1)}, full=True, token="t2")) == ({A: idle(4), B: idle(2), C: n(1)}, False)


def test_a_gap_an_unknown_replica_and_another_incarnation_are_read_anew() -> None:
    shares = ReceivedNumbers()
    assert shares.hear(said(4, {A: n(1)})) == ({}, True)
    shares.hear(said(1, {A: n(1)}, full=True))
    assert shares.hear(said(3, {A: n(3)})) == ({A: n(3)}, True)
    assert shares.hear(said(4, {A: n(4)})) == ({A: n(4)}, False)
    assert shares.hear(said(5, {A: n(5)}, token="t2")) == ({}, True)


def test_what_is_read_replaces_the_share_unless_more_was_heard_since() -> None:
    shares = ReceivedNumbers()
    assert shares.stored("r", "t", 3, {A: n(3)}) == {A: n(3)}
    assert shares.hear(said(4, {A: n(4)})) == ({A: n(4)}, False)
    assert shares.stored("r", "t", 3, {A: n(3)}) == {}
    assert shares.stored("r", "t", 6, {B: n(6)}) == {A: idle(4), B: n(6)}
    assert shares.hear(said(5, {A: n(5)})) == ({}, False)
    assert shares.stored("r", "t2", 0, {}) == {B: idle(6)}


def test_whether_all_was_heard_is_told_by_incarnation_and_sequence() -> None:
    shares = ReceivedNumbers()
    shares.hear(said(7, {}, full=True))
    assert shares.up_to_date("r", "t", 7)
    assert not shares.up_to_date("r", "t", 8)
    assert not shares.up_to_date("r", "t2", 1)
    shares.drop("r")
    assert not shares.up_to_date("r", "t", 7)


Flushes = st.lists(
    st.tuples(
        st.dictionaries(st.sampled_from([A, B, C]), st.integers(0, 9).map(n), max_size=3), st.booleans(), st.booleans()
    ),
    max_size=30,
)


@given(Flushes)
def test_whatever_is_lost_a_reader_that_reads_again_ends_with_the_writer_s_numbers(
    flushes: list[tuple[dict[PodId, InflightNumbers], bool, bool]],
) -> None:
    pending, shares = PendingUpdates(), ReceivedNumbers()
    view: dict[PodId, InflightNumbers] = {}
    kept: dict[PodId, InflightNumbers] = {}
    for seq, (changes, full, lost) in enumerate(flushes, 1):
        for pod, numbers in changes.items():
            pending.announce(pod, numbers)
        batch = pending.take(0.0, full)
        told = {} if batch is None else dict(batch.numbers)
        kept.update(told)
        if not lost:
            news, missed = shares.hear(said(seq, told, full=full))
            view.update(news)
            if missed:
                view.update(shares.stored("r", "t", seq, dict(kept)))
    view.update(shares.stored("r", "t", len(flushes) + 1, dict(kept)))
    assert view == pending.numbers == kept
