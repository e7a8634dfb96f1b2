"""Messages reach the listener once and in order, and the receiver asks for missed ones."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schedulers.types import PodId
from statesync.store.protocol import PolicyRecord
from statesync.store.redis.lease import LiveReplicas
from statesync.store.redis.ledger import PendingUpdates
from statesync.store.redis.messages import (
    ChangesMessage,
    GoneMessage,
    HeartbeatMessage,
    LogEntry,
    Message,
    PlacementMessage,
    PolicyChangedMessage,
    pack,
    pack_blocks,
    pack_whole_record,
    report_of,
    standing,
)
from statesync.store.redis.placement_log import parse_id
from statesync.store.redis.receiver import LEAP, SenderSequences, UpdateReceiver
from statesync.store.redis.view_age import ViewAge
from statesync.types import EngineReport, InflightNumbers
from tests.fakes.recording_listener import RecordingListener
from tests.fakes.virtual_time import Clock

A, B, C = PodId("a"), PodId("b"), PodId("c")
ONE = InflightNumbers(1, 1, 1, 1)


class Scene:
    """A receiver; only the test moves its clock."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.listener = RecordingListener()
        self.live_replicas = LiveReplicas("me", 5.0)
        self.view_age = ViewAge(self.clock.now)
        self.view_age.linked()
        self.receiver = UpdateReceiver("me", self.listener, self.live_replicas, self.view_age, self.clock)
        self.receiver.own_tokens.add("mine")
        self.missed: list[str] = []
        self.receiver.missed = self.missed.append

    def receive(self, message: Message, log_id: str = "", *placements: PlacementMessage) -> None:
        entry = LogEntry(1, message.replica, message.token, list(placements)) if log_id else None
        self.receiver.push([b"message", b"channel", pack([log_id, message, entry] if entry else [log_id, message])])


def changes(
    seq: int,
    full: bool = False,
    replica: str = "other",
    token: str = "t",
    numbers: Mapping[PodId, InflightNumbers] | None = None,
) -> ChangesMessage:
    given = {A: ONE} if numbers is None else numbers
    return ChangesMessage(v=1, replica=replica, token=token, seq=seq, full=full, numbers=given)


def n(count: int) -> InflightNumbers:
    return InflightNumbers(count, count, count, count)


def test_a_message_becomes_numbers_placements_reports_and_a_live_replica() -> None:
    scene = Scene()
    message = changes(1, full=True)
    message.reports = {B: report_of(EngineReport(queued=2), 0.5, "other")}
    placements = [PlacementMessage(A, pack_blocks([1, 2])), PlacementMessage(B, b"")]
    scene.receive(message, "5-0", *placements)
    assert scene.listener.inflight == {"other": {A: ONE}}
    assert scene.listener.placed == [(A, (1, 2)), (B, ())]
    assert scene.listener.reports == {B: EngineReport(queued=2)}
    assert scene.listener.report_ages_s == {B: 0.5}
    assert scene.live_replicas.others() == ["other"]
    assert scene.missed == []


def test_own_messages_are_only_echoes() -> None:
    scene = Scene()
    scene.view_age.sent(99.0)
    scene.receive(changes(1, replica="me", token="mine"), "5-0", PlacementMessage(A, pack_blocks([1])))
    assert scene.listener.inflight == {}
    assert scene.listener.placed == []
    assert scene.receiver.log.folded == (5, 0)
    assert scene.view_age.silent_s(101.0) == 0.0
    assert scene.live_replicas.others() == []


def test_only_placements_of_an_earlier_process_of_this_name_are_used() -> None:
    scene = Scene()
    scene.receive(changes(1, full=True, replica="me", token="earlier"), "5-0", PlacementMessage(A, pack_blocks([1])))
    scene.receive(HeartbeatMessage(v=1, replica="me", token="earlier", seq=9))
    assert scene.listener.placed == [(A, (1,))]
    assert scene.listener.inflight == {}
    assert scene.live_replicas.others() == []
    assert scene.missed == []


def test_an_unknown_replica_and_a_heartbeat_ahead_of_the_last_message_cause_a_read() -> None:
    scene = Scene()
    scene.receive(changes(4))
    assert scene.missed == ["other"]
    fields = {b"@": standing("t", 4).encode(), b"a": pack(ONE)}
    assert scene.receiver.stored("other", fields) == "t"
    assert scene.listener.inflight == {"other": {A: ONE}}
    scene.receive(HeartbeatMessage(v=1, replica="other", token="t", seq=4))
    assert scene.missed == ["other"]
    scene.receive(HeartbeatMessage(v=1, replica="other", token="t", seq=6))
    assert scene.missed == ["other", "other"]


def test_a_replica_is_gone_once_and_only_its_live_incarnation() -> None:
    scene = Scene()
    scene.receive(changes(1, full=True, token="t2"))
    scene.receive(GoneMessage(v=1, replica="other", token="t1"))
    assert scene.listener.gone == []
    scene.receive(GoneMessage(v=1, replica="other", token="t2"))
    scene.receive(GoneMessage(v=1, replica="other", token="t2"))
    assert scene.listener.gone == ["other"]


def test_messages_received_while_the_keys_are_read_follow_them_once() -> None:
    scene = Scene()
    scene.receiver.hold()
    scene.receive(changes(2), "5-0", PlacementMessage(A, pack_blocks([5])))
    scene.receive(changes(3), "7-0", PlacementMessage(A, pack_blocks([7])))
    assert scene.listener.inflight == {}
    scene.receiver.stored("other", {b"@": standing("t", 2).encode(), b"a": pack(InflightNumbers(9, 9, 9, 9))})
    scene.receiver.release()
    assert scene.listener.inflight == {"other": {A: ONE}}
    assert scene.missed == []
    scene.receiver.entry(b"5-0", pack(LogEntry(1, "other", "t", [PlacementMessage(A, pack_blocks([5]))])))
    scene.receiver.entry(b"6-0", pack(LogEntry(1, "me", "mine", [PlacementMessage(A, pack_blocks([6]))])))
    scene.receiver.log.caught_up()
    assert scene.listener.placed == [(A, (5,)), (A, (7,))]


def test_a_replica_without_a_hash_is_not_live() -> None:
    scene = Scene()
    assert scene.receiver.stored("other", {}) == ""
    assert scene.listener.inflight == {}


def test_a_report_read_from_the_keys_has_its_age_by_the_server_s_clock() -> None:
    scene = Scene()
    packed = pack(report_of(EngineReport(queued=1), 0.5, "other"))
    own = pack(report_of(EngineReport(queued=2), 0.0, "me"))
    stored = {b"a": b"8000:" + packed, b"b": b"9000:" + own, b"torn": b"x", b"no time": b":" + packed}
    scene.receiver.reported(stored, 10_000.0, skip_own=True)
    assert scene.listener.reports == {A: EngineReport(queued=1)}
    assert scene.listener.report_ages_s == {A: 2.5}
    scene.receiver.reported(stored, 10_000.0, skip_own=False)
    assert set(scene.listener.reports) == {A, B}


def test_a_message_about_a_policy_suggests_to_read_it_and_so_does_the_echo_of_an_own_one() -> None:
    scene = Scene()
    suggested: list[tuple[str, PolicyRecord | None]] = []
    scene.receiver.suggested = lambda pool, record: suggested.append((pool, record))
    record = PolicyRecord("least_load", {}, 3)
    text = pack_whole_record(record).decode()
    scene.receiver.own_tokens.add("mine")
    for token, said in (("t", text), ("mine", text), ("t", "{")):
        scene.receive(PolicyChangedMessage(v=1, replica="other", token=token, pool="default", record=said))
    assert suggested == [("default", record), ("default", None)]
    assert scene.listener.policies == {}
    scene.receiver.policy("default", record)
    assert scene.listener.policies == {"default": record}


def test_other_pushes_and_bytes_that_cannot_be_decoded_are_ignored() -> None:
    scene = Scene()
    scene.receiver.push([b"invalidate", None])
    scene.receiver.push([b"message", b"channel", b"\xc1"])
    assert scene.receiver.reader.unreadable == 1


@pytest.mark.parametrize("log_id", ["", "1763899999000-1", "1763900000000-0", "1763900000000-" + "9" * 20])
@pytest.mark.parametrize("known", [True, False])
def test_the_echo_of_the_last_message_is_recognised_by_its_end_and_acts_as_if_it_was_decoded(
    log_id: str, known: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene, folded = Scene(), (1763899999000, 0)
    scene.receiver.log.read(folded, [])
    message = pack(changes(1, replica="me", token="mine"))
    entry = pack(LogEntry(1, "me", "mine", [PlacementMessage(A, b"12345678")])) if log_id else b""
    scene.view_age.sent(scene.clock.now - 0.25, message + entry if known else b"")
    if known:
        monkeypatch.setattr(scene.receiver.reader, "envelope", None)
    head = pack([log_id, 0, 0] if log_id else [log_id, 0])[: -2 if log_id else -1]
    scene.receiver.push([b"message", b"channel", head + message + entry])
    assert scene.view_age.age_s(scene.clock.now) == 0.25
    assert scene.view_age.silent_s(scene.clock.now) == 0.0
    assert scene.receiver.reader.unreadable == 0
    assert scene.receiver.log.folded == (parse_id(log_id) if log_id else folded)
    assert (scene.listener.inflight, scene.listener.placed) == ({}, [])


def test_a_message_in_sequence_is_current_once() -> None:
    sequences = SenderSequences()
    assert sequences.take(changes(1, full=True)) == (True, False)
    assert sequences.take(changes(2)) == (True, False)
    assert sequences.take(changes(2)) == (False, False)


def test_a_number_far_ahead_is_not_taken_for_the_senders() -> None:
    """Case E 25."""
    sequences = SenderSequences()
    sequences.take(changes(1, full=True))
    assert sequences.take(changes(LEAP + 2)) == (False, True)
    assert sequences.take(changes(2)) == (True, False)


def test_a_full_message_is_current_after_any_gap() -> None:
    sequences = SenderSequences()
    sequences.take(changes(1, full=True))
    assert sequences.take(changes(5, full=True)) == (True, False)
    assert sequences.take(changes(1, full=True, token="t2")) == (True, False)


def test_a_gap_an_unknown_replica_and_a_new_incarnation_cause_a_read() -> None:
    sequences = SenderSequences()
    assert sequences.take(changes(4)) == (False, True)
    sequences.take(changes(1, full=True))
    assert sequences.take(changes(3)) == (True, True)
    assert sequences.take(changes(4)) == (True, False)
    assert sequences.take(changes(5, token="t2")) == (False, True)


def test_a_read_share_is_current_unless_a_later_message_was_taken() -> None:
    sequences = SenderSequences()
    assert sequences.read("other", "t", 3)
    assert sequences.take(changes(4)) == (True, False)
    assert not sequences.read("other", "t", 3)
    assert sequences.read("other", "t", 6)
    assert sequences.take(changes(5)) == (False, False)
    assert sequences.read("other", "t2", 0)


def test_a_reached_position_is_an_incarnation_and_a_sequence() -> None:
    sequences = SenderSequences()
    sequences.take(changes(7, full=True))
    assert sequences.reached("other", "t", 7)
    assert not sequences.reached("other", "t", 8)
    assert not sequences.reached("other", "t2", 1)
    assert repr(sequences) == "<SenderSequences of other>"
    sequences.drop("other")
    assert not sequences.reached("other", "t", 7)


def test_a_full_message_and_a_hash_replace_all_numbers_and_a_change_only_its_own() -> None:
    scene = Scene()
    scene.receive(changes(1, full=True, numbers={A: n(4), B: n(1)}))
    scene.receive(changes(2, numbers={B: n(2)}))
    assert scene.listener.inflight == {"other": {A: n(4), B: n(2)}}
    scene.receive(changes(3, full=True, numbers={C: n(1)}))
    assert scene.listener.inflight == {"other": {C: n(1)}}
    scene.receiver.stored("other", {b"@": standing("t", 5).encode(), b"a": pack(n(5))})
    assert scene.listener.inflight == {"other": {A: n(5)}}
    scene.receive(changes(1, full=True, token="t2", numbers={}))
    assert scene.listener.inflight == {}


Flushes = st.lists(
    st.tuples(
        st.dictionaries(st.sampled_from([A, B, C]), st.integers(0, 9).map(n), max_size=3), st.booleans(), st.booleans()
    ),
    max_size=30,
)


@given(Flushes)
def test_after_any_loss_a_reader_that_reads_again_has_the_writer_s_numbers(
    flushes: list[tuple[dict[PodId, InflightNumbers], bool, bool]],
) -> None:
    pending, scene = PendingUpdates(), Scene()
    kept: dict[PodId, InflightNumbers] = {}

    def read(seq: int) -> None:
        fields = {pod.encode(): pack(numbers) for pod, numbers in kept.items()}
        scene.receiver.stored("other", {b"@": standing("t", seq).encode(), **fields})

    for seq, (noted, full, lost) in enumerate(flushes, 1):
        for pod, numbers in noted.items():
            pending.announce(pod, numbers)
        batch = pending.take(0.0, full)
        sent = {} if batch is None else dict(batch.numbers)
        kept.update(sent)
        if not lost:
            scene.receive(changes(seq, full, numbers=sent))
            if scene.missed:
                scene.missed.clear()
                read(seq)
    read(len(flushes) + 1)
    assert scene.listener.inflight.get("other", {}) == pending.numbers == kept
