"""Case E 25: whatever lies under the keys and comes over the channel, replicas keep their links, join and agree. What
is damaged is logged once and written again by its owner. On a real server.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import msgspec
import pytest

from statesync.store.protocol import PolicyRecord
from statesync.store.redis.keys import RedisKeys
from statesync.store.redis.messages import SCHEMA
from statesync.store.redis.store import RedisStore
from statesync.types import EngineReport, InflightNumbers
from tests.fakes.recording_listener import RecordingListener, eventually
from tests.fakes.redis_replicas import RARE, STEADY, A, B, client, page, pass_renewal, play, replica
from tests.fakes.redis_server import RedisServer

KEYS: Final = RedisKeys("turnout")
POLICY: Final = KEYS.policy("default")
SHARE: Final = InflightNumbers(3, 30, 3, 5)
DEEP: Final = b"\x91" * 100_000
HUGE: Final = b"9" * 5000
LATE: Final = "99999999999999-0"

FIXED: Final = (
    *(KEYS.leases, KEYS.tokens, KEYS.inflight("left"), KEYS.inflight("right"), KEYS.reports, KEYS.log),
    *(KEYS.checkpoint, KEYS.lock, KEYS.pools, KEYS.epoch, POLICY, KEYS.trial("default", 1)),
)

Damage = Callable[[Any], object]


def other_type(key: str) -> Damage:
    """Another type under the key: text, or a list where text belongs."""

    def damage(admin: Any) -> None:
        admin.delete(key)
        if key in (KEYS.lock, KEYS.epoch):
            admin.rpush(key, "x")
        else:
            admin.set(key, b"\xff\xfe")

    return damage


def put(key: str, field: str | bytes, value: bytes) -> Damage:
    return lambda admin: admin.hset(key, field, value)


def packed(value: object) -> bytes:
    return msgspec.msgpack.encode(value)


def pushed(*values: bytes) -> Damage:
    return lambda admin: admin.lpush(POLICY, *values)


CONTENT: Final[dict[str, Damage]] = {
    "a lease without an end": lambda admin: admin.zadd(KEYS.leases, {b"\xff\xfe": float("inf"), "left": float("inf")}),
    "a holder of no lease": put(KEYS.tokens, b"\xff", b"\xfe"),
    "no standing": put(KEYS.inflight("left"), "@", b"\xff\xfe"),
    "a huge sequence number": put(KEYS.inflight("left"), "@", b"token " + HUGE),
    "deep numbers": put(KEYS.inflight("left"), "deep", DEEP),
    "numbers that are text": put(KEYS.inflight("left"), b"\xff\xfe", packed(["x"])),
    "huge numbers": put(KEYS.inflight("left"), "huge", packed([2**64 - 1] * 6)),
    "negative numbers": put(KEYS.inflight("left"), "negative", packed([-1] * 6)),
    "a report of no time": put(KEYS.reports, "late", HUGE + b":" + packed({})),
    "a deep report": put(KEYS.reports, "deep", b"1:" + DEEP),
    "a report of bad text": put(KEYS.reports, b"\xff", b"1:\x81\xa7replica\xa2\xff\xfe"),
    "a report of NaN": put(
        KEYS.reports, "nan", b"1:" + packed({"v": 1, "age_s": float("nan"), "replica": "x", "kv_usage": float("inf")})
    ),
    "entries of other fields": lambda admin: admin.xadd(KEYS.log, {"x": "y"}),
    "a deep entry": lambda admin: admin.xadd(KEYS.log, {"b": DEEP}),
    "an entry of a late time": lambda admin: (admin.delete(KEYS.log), admin.xadd(KEYS.log, {"b": b"\xc1"}, id=LATE)),
    "the last possible entry": lambda admin: (
        admin.delete(KEYS.log),
        admin.xadd(KEYS.log, {"b": b"\xc1"}, id=f"{2**64 - 1}-{2**64 - 1}"),
    ),
    "a checkpoint of bad text": lambda admin: admin.hset(
        KEYS.checkpoint, mapping={"name": b"\xff", "log_id": b"\xfe", "at_ms": b"\xfd"}
    ),
    "a checkpoint of the future": lambda admin: admin.hset(
        KEYS.checkpoint, mapping={"name": "x", "log_id": LATE, "at_ms": "1e300"}
    ),
    "pages of other content": lambda admin: (
        admin.hset(KEYS.checkpoint, mapping={"name": "p", "log_id": "0-1", "at_ms": "1"}),
        admin.rpush(KEYS.pages("p"), b"\xc1", DEEP, packed([1, "a", b"123", b"\x00" * 9]), packed([1, "a", 5, 6])),
    ),
    "pages of another type": lambda admin: (
        admin.hset(KEYS.checkpoint, mapping={"name": "p", "log_id": "0-1", "at_ms": "1"}),
        admin.set(KEYS.pages("p"), b"x"),
    ),
    "a lock without an end": lambda admin: admin.set(KEYS.lock, b"\xff"),
    "a pool of bad text": lambda admin: admin.sadd(KEYS.pools, b"\xff\xfe"),
    "records that are none": pushed(b"\xff", b"[]", b'{"generation":', b'{"generation":"x"}', b"[" * 100_000),
    "a record of a huge generation": pushed(b'{"generation":1e300,"name":"p2c","params":{},"v":1}'),
    "a deep record": pushed(
        b'{"generation":4,"name":"p2c","v":1,"params":{"x":' + b'{"x":' * 500 + b"1" + b"}" * 501 + b"}"
    ),
}


def message(**fields: object) -> bytes:
    return packed(["", {"replica": "left", "token": "t", "v": SCHEMA, **fields}])


MESSAGES: Final[dict[str, bytes]] = {
    "no message": b"\xc1",
    "an empty one": b"",
    "a deep one": DEEP,
    "a deep field": b"\x92\xa0\x81\xa1x" + DEEP,
    "bad text": b"\x92\xa2\xff\xfe\x80",
    "another shape": packed({"t": "changes"}),
    "an unknown kind": message(t="dance"),
    "a huge schema": message(t="beat", seq=1).replace(b"\xa1v\x01", b"\xa1v\xcf" + b"\xff" * 8),
    "a huge sequence number": message(t="changes", seq=2**63, numbers={A: [1]}),
    "a sequence number far ahead": message(t="changes", seq=2**40, numbers={A: [1]}),
    "numbers that are text": message(t="changes", seq=1, full=True, numbers={A: ["x"]}),
    "huge numbers": message(t="changes", seq=1, full=True, numbers={A: [2**64 - 1]}),
    "NaN in a report": message(t="changes", seq=1, reports={A: {"v": 1, "age_s": float("nan"), "replica": "x"}}),
    "a record that is none": message(t="policy", pool="default", record="{"),
    "a deep record": message(t="policy", pool="default", record="[" * 100_000),
    "an entry of a late time": packed(
        [LATE, {"t": "beat", "replica": "x", "token": "t", "v": 1, "seq": 0}, [1, "x", "t", []]]
    ).replace(
        packed([1, "x", "t", []]), packed({"v": 1, "replica": "x", "token": "t", "placements": [[A, b"12345678"]]})
    ),
}


async def agree(
    left: RedisStore, left_seen: RecordingListener, right: RedisStore, right_seen: RecordingListener
) -> None:
    """Whether everything that replicas share still arrives, over the links that they have."""
    before = left.health(), right.health()
    left.announce(A, SHARE._replace(dispatched=99))
    left.placed(A, [7, 8])
    right.report(B, EngineReport(queued=3))
    pass_renewal()
    await eventually(lambda: right_seen.inflight.get("left", {}).get(A) == SHARE._replace(dispatched=99))
    await eventually(lambda: (A, (7, 8)) in right_seen.placed)
    await eventually(lambda: left_seen.reports.get(B) == EngineReport(queued=3))
    record = await right.put_policy("default", PolicyRecord("random", {}), if_generation=None)
    await eventually(lambda: left_seen.policies.get("default") == record)
    shared = await left.share_trial("default", 1, "left", b"figures")
    assert shared["left"] == b"figures"
    await eventually(lambda: left.health().connected and right.health().connected)  # between two leases there is none
    assert [each.health().reconnects for each in (left, right)] == [then.reconnects for then in before]


async def join(server: RedisServer, known: PolicyRecord | None) -> None:
    """Whether a new replica starts, with what the others know."""
    async with replica(server, "late", RARE) as (late, seen):
        assert late.health().warm
        await eventually(lambda: seen.inflight.get("left", {}).get(A) == SHARE._replace(dispatched=99))
        assert seen.policies.get("default") == known


def survives(server: RedisServer, damage: Damage, caplog: pytest.LogCaptureFixture) -> None:
    async def scene(
        left: RedisStore, left_seen: RecordingListener, right: RedisStore, right_seen: RecordingListener
    ) -> None:
        left_seen.pages = right_seen.pages = [page(A, 1, 2)]
        left.announce(A, SHARE)
        await left.put_policy("default", PolicyRecord("p2c", {}), if_generation=None)
        await eventually(lambda: "left" in right_seen.inflight and "default" in right_seen.policies)
        with client(server) as admin:
            damage(admin)
            await agree(left, left_seen, right, right_seen)
            damage(admin)
            caplog.clear()
            async with replica(server, "early") as (early, _):
                assert early.health().warm
            await agree(left, left_seen, right, right_seen)
        await join(server, left_seen.policies.get("default"))

    play(server, scene, STEADY)
    texts = [record.getMessage() for record in caplog.records if "cannot be read" in record.getMessage()]
    assert len(texts) <= 4 * len(set(texts)), "once for each replica and kind"


@pytest.mark.parametrize("key", FIXED)
def test_another_type_under_a_key_is_repaired(server: RedisServer, key: str, caplog: pytest.LogCaptureFixture) -> None:
    """Case E 25."""
    survives(server, other_type(key), caplog)


@pytest.mark.parametrize("name", CONTENT)
def test_other_content_under_a_key_is_ignored(server: RedisServer, name: str, caplog: pytest.LogCaptureFixture) -> None:
    """Case E 25."""
    survives(server, CONTENT[name], caplog)


@pytest.mark.parametrize("name", MESSAGES)
def test_other_content_on_the_channel_is_ignored(
    server: RedisServer, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Case E 25."""
    survives(server, lambda admin: admin.publish(KEYS.channel, MESSAGES[name]), caplog)
