"""The recorded bytes of this version, and reading those of older and newer versions. Files of old versions stay."""

from __future__ import annotations

import logging
from array import array
from pathlib import Path
from typing import Any

import msgspec
import pytest

from schedulers.types import Adapters, PodId
from statesync.store.policy_record import Canary, CanaryGuard, PolicyChoice
from statesync.store.protocol import PolicyRecord
from statesync.store.redis.messages import (
    SCHEMA,
    ChangesMessage,
    Envelope,
    GoneMessage,
    HeartbeatMessage,
    LogEntry,
    MessageDecoder,
    PlacementMessage,
    PolicyChangedMessage,
    PoolPodsMessage,
    numbers_of,
    pack,
    pack_blocks,
    pack_page,
    pack_record,
    pack_whole_record,
    read_standing,
    report_of,
    standing,
    unpack_blocks,
)
from statesync.types import EngineReport, InflightNumbers, PrefixPage

DATA = Path(__file__).parents[3] / "data" / "messages"
TOKEN = "0123456789abcdef"
A, B = PodId("10.0.0.1:8000"), PodId("10.0.0.2:8000")

NUMBERS = InflightNumbers(3, 900, 200, 41, 2, 230)
FOUR_NUMBERS = NUMBERS[:4]
"""The numbers of version 1 before it had those of prefill."""
REPORT = report_of(EngineReport(3, 2, 0.5, 500000, 1000, 400, 7.25), 0.125, "gw-1")
LORA = report_of(EngineReport(queued=3, adapters=Adapters(frozenset({"b", "a"}), frozenset({"c"}), 2)), 0.125, "gw-1")
ENTRY = LogEntry(1, "gw-1", TOKEN, [PlacementMessage(A, pack_blocks([1, 2**64 - 1])), PlacementMessage(B, b"")])
RECORD = PolicyRecord("p2c", {"choices": 2}, 3)
ON_TRIAL = RECORD._replace(
    shadow=PolicyChoice("random", {}),
    canary=Canary(PolicyChoice("profile", {"scorers": [{"name": "queue", "weight": 2}]}), 12.5, CanaryGuard(0.05)),
    note="half of them, for a day",
    restores=1,
)
MADE = RECORD._replace(at=1_767_225_600.25, by="ci: J\u00f6rg")
"""With the name of the token that made it, and what its holder said of itself."""
PODS = PoolPodsMessage(1, [A, B], b"wf", [b'{"data":[]}'], [2, 0])
SENT: dict[str, Envelope] = {
    "changes": Envelope(
        "1763816597123-4",
        ChangesMessage(
            v=1, replica="gw-1", token=TOKEN, seq=7, full=True, numbers={A: FOUR_NUMBERS}, reports={A: REPORT}
        ),
        ENTRY,
    ),
    "changes-prefilling": Envelope(
        "1763816597123-4",
        ChangesMessage(v=1, replica="gw-1", token=TOKEN, seq=7, full=True, numbers={A: NUMBERS}, reports={A: REPORT}),
        ENTRY,
    ),
    "beat": Envelope("", HeartbeatMessage(v=1, replica="gw-1", token=TOKEN, seq=7)),
    "beat-pods": Envelope("", HeartbeatMessage(v=1, replica="gw-1", token=TOKEN, seq=7, pods=2**64 - 1)),
    "gone": Envelope("", GoneMessage(v=1, replica="gw-1", token=TOKEN)),
    "policy": Envelope(
        "",
        PolicyChangedMessage(
            v=1,
            replica="gw-1",
            token=TOKEN,
            pool="default",
            record='{"generation":3,"name":"p2c","params":{"choices":2},"v":1}',
        ),
    ),
}


def kept(name: str) -> bytes:
    return (DATA / f"v1-{name}.bin").read_bytes()


def grown(data: bytes, **fields: object) -> bytes:
    """The message as a later version would write it: with more in every map and array."""
    value: list[Any] = msgspec.msgpack.decode(data)
    value[1].update(fields)
    return msgspec.msgpack.encode([*value, None, "later"] if len(value) < 3 else [*value, "later"])


@pytest.mark.parametrize("name", sorted(SENT))
def test_messages_of_version_1_are_read(name: str) -> None:
    reader = MessageDecoder()
    envelope = reader.envelope(kept(name))
    assert envelope is not None
    expected = SENT[name]
    assert type(envelope.message) is type(expected.message)
    assert pack(envelope) == pack(expected)
    assert reader.unreadable == 0


def test_the_keys_of_version_1_are_read() -> None:
    reader = MessageDecoder()
    assert reader.entry(kept("entry")) == ENTRY
    assert reader.report(kept("report")) == REPORT
    assert reader.report(kept("report-lora")) == LORA
    assert reader.numbers(kept("numbers")) == InflightNumbers(*FOUR_NUMBERS)
    assert reader.numbers(kept("numbers-prefilling")) == NUMBERS
    assert reader.record(kept("record")) == RECORD
    assert reader.record(kept("record-on-trial")) == ON_TRIAL
    assert reader.record(kept("record-made")) == MADE
    assert reader.page(kept("page")) == PrefixPage(A, array("Q", [1, 2]).tobytes(), b"\0\1")
    assert reader.pool_pods(kept("pool-pods")) == PODS
    assert reader.unreadable == 0


def test_this_version_writes_the_recorded_bytes() -> None:
    assert SCHEMA == 1, "a new version: record its bytes beside the old ones, and compare with those"
    assert pack(ENTRY) == kept("entry")
    assert pack(REPORT) == kept("report")
    assert pack(LORA) == kept("report-lora")
    assert pack(NUMBERS) == kept("numbers-prefilling")
    assert pack_whole_record(RECORD) == kept("record")
    assert pack_whole_record(ON_TRIAL) == kept("record-on-trial")
    assert pack_whole_record(MADE) == kept("record-made")
    assert pack_page(PrefixPage(A, pack_blocks([1, 2]), b"\0\1")) == kept("page")
    assert pack(PODS) == kept("pool-pods")


@pytest.mark.parametrize("name", sorted(SENT))
def test_a_newer_message_is_read_as_far_as_it_is_known_and_logged_once(
    name: str, caplog: pytest.LogCaptureFixture
) -> None:
    reader = MessageDecoder()
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            envelope = reader.envelope(grown(kept(name), v=SCHEMA + 1, hope=[1, {"a": None}]))
            assert envelope is not None
            assert envelope.message.replica == "gw-1"
            assert envelope.message.v == SCHEMA + 1
    assert reader.unreadable == 0
    assert [record.getMessage() for record in caplog.records] == [
        f"another replica writes schema {SCHEMA + 1}, this one {SCHEMA}: what is new in it is left out"
    ]


def test_added_numbers_and_fields_of_placements_and_pages_are_ignored() -> None:
    reader = MessageDecoder()
    assert reader.numbers(pack([3, 900, 200, 41, 2, 230, 99])) == NUMBERS
    entry = reader.entry(pack({"v": 2, "replica": "x", "token": "t", "placements": [[A, b"", 7]], "more": 1}))
    assert entry is not None
    assert entry.placements == [PlacementMessage(A, b"")]
    assert reader.page(pack([2, A, b"", b"", "more"])) == PrefixPage(A, b"", b"")
    assert reader.record(b'{"generation":3,"name":"p2c","params":{"choices":2},"v":2,"why":"x"}') == RECORD


def test_fewer_numbers_are_filled_with_zeros() -> None:
    assert numbers_of([3, 900]) == InflightNumbers(3, 900, 0, 0)


@pytest.mark.parametrize(
    "data",
    [b"", b"\xc1", b"\xff" * 20, pack(["", {"t": "unknown", "v": 9, "replica": "x", "token": "y"}]), pack("text")],
)
def test_unreadable_bytes_are_counted_and_logged_once(data: bytes, caplog: pytest.LogCaptureFixture) -> None:
    reader = MessageDecoder()
    assert [reader.envelope(data) for _ in range(3)] == [None] * 3
    assert reader.unreadable == 3
    assert len(caplog.records) == 1
    assert not any((reader.entry(data), reader.report(data), reader.page(data), reader.record(data)))
    assert reader.numbers(data) is None
    assert reader.unreadable == 8


def test_blocks_are_little_endian_and_an_incomplete_one_is_left_out() -> None:
    assert pack_blocks([1, 2**64 - 1]) == b"\x01" + bytes(7) + b"\xff" * 8
    assert list(unpack_blocks(pack_blocks([1, 2**64 - 1]) + b"\x01")) == [1, 2**64 - 1]


def test_the_adapters_of_a_report_are_restored_and_unknown_differs_from_none_in_use() -> None:
    for adapters in (Adapters(frozenset({"b", "a"}), frozenset({"c"}), 2), Adapters(limit=4), None):
        assert report_of(EngineReport(adapters=adapters), 0.0, "gw-1").engine().adapters == adapters


def test_a_version_without_adapters_reads_the_rest_of_a_report() -> None:
    class Before(msgspec.Struct, omit_defaults=True, frozen=True):
        v: int
        age_s: float
        replica: str
        queued: int | None = None

    assert msgspec.msgpack.decode(kept("report-lora"), type=Before) == Before(1, 0.125, "gw-1", 3)


def test_an_older_version_reads_a_record_without_who_made_it_and_a_record_of_it_has_no_maker() -> None:
    class Before(msgspec.Struct):
        generation: int
        name: str
        params: dict[str, object]
        v: int
        note: str = ""

    assert msgspec.json.decode(kept("record-made"), type=Before) == Before(3, "p2c", {"choices": 2}, 1)
    older = MessageDecoder().record(kept("record"))
    assert older is not None and (older.at, older.by) == (0.0, "")


def test_an_engines_report_is_restored() -> None:
    engine = EngineReport(queued=3, started_at=7.25)
    assert report_of(engine, 1.5, "gw-1").engine() == engine


@pytest.mark.parametrize("record", [RECORD, ON_TRIAL, MADE])
def test_a_record_is_completed_by_the_prefix_that_the_script_adds(record: PolicyRecord) -> None:
    written = b'{"generation":3,' + pack_record(record)[1:]
    assert written == pack_whole_record(record)
    assert MessageDecoder().record(written) == record


def test_the_standing_of_an_incarnation_is_read_back() -> None:
    assert read_standing(standing(TOKEN, 12).encode()) == (TOKEN, 12)
    assert read_standing(b"token 12 and more") == ("token", 12)
    assert read_standing(b"") == read_standing(b"token x") == ("", 0)
