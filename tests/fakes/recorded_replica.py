"""A replica that makes one change of every kind, and a recording of everything it writes: messages on the channel and
the content of keys. A recording in `tests/data` represents a replica of the version that it was made with.

To record another version, run `recording` of this file in a checkout of that version, its imports set to the module
names there, and write the result to `tests/data` with `dump`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from random import Random
from typing import Any, Final, NamedTuple

import msgspec

from schedulers.types import Adapters, PodId
from statesync.settings import Sync
from statesync.store.policy_record import Canary, CanaryGuard, PolicyChoice
from statesync.store.protocol import PolicyRecord
from statesync.store.redis.locate import locator
from statesync.store.redis.store import RedisStore
from statesync.types import EngineReport, InflightNumbers
from tests.fakes.recording_listener import RecordingListener, eventually
from tests.fakes.redis_replicas import A, B, client, page
from tests.fakes.redis_server import RedisServer
from tests.fakes.virtual_time import pass_time

NAME: Final = "recorded"
CHANNEL: Final = "{turnout}:news:0"
CONFIG: Final = Sync(lease_s=60.0, timeout_s=600.0, checkpoint_s=100.0)
PAGES: Final = [page(A, 1, 2, 3), page(B, 2**64 - 1)]
FIGURES: Final = b"figures"

BUSY: Final = {A: InflightNumbers(2, 900, 300, 41, 1, 310), B: InflightNumbers(1, 70_000, 66_000, 1, 1, 130_000)}
IDLE: Final = {A: InflightNumbers(dispatched=41), B: InflightNumbers()}
REPORTS: Final = {
    A: EngineReport(3, 2, 0.5, 500_000, 1000, 400, 7.25, Adapters(frozenset("ba"), frozenset("c"), 2)),
    B: EngineReport(queued=0),
}
EARLY: Final[Sequence[tuple[PodId, Sequence[int]]]] = [(A, (1, 2**64 - 1)), (B, (3,)), (B, ())]
"""Placements before the checkpoint; without blocks the engine restarted."""
LATE: Final[tuple[PodId, Sequence[int]]] = (A, (1, 5, 7))
"""The placement after it."""
PLAIN: Final = PolicyRecord("p2c", {}, 1)
ON_TRIAL: Final = PolicyRecord(
    "prefix_aware",
    {},
    2,
    PolicyChoice("random", {}),
    Canary(PolicyChoice("profile", {"scorers": [{"name": "queue", "weight": 2}]}), 12.5, CanaryGuard(0.05)),
    "half of them, for a day",
    1,
)
POLICIES: Final = {"default": PLAIN, "chat": ON_TRIAL}


class Recording(NamedTuple):
    """Everything that a replica wrote; bytes are stored as Latin-1 text."""

    published: Sequence[str]
    """Every message, in order; the last one is a `GoneMessage`."""
    keys: Mapping[str, tuple[str, Any]]
    """Type and content of each key before that last message."""


def load(path: Path) -> Recording:
    """A recording of `tests/data`."""
    found = json.loads(path.read_text())
    return Recording(found["published"], {key: (kind, value) for key, (kind, value) in found["keys"].items()})


def dump(path: Path, recorded: str, recording: Recording) -> None:
    """Write a recording; `recorded` is how it was made."""
    path.write_text(json.dumps({"recorded": recorded, **recording._asdict()}, indent=1, sort_keys=True) + "\n")


async def recording(server: RedisServer) -> Recording:
    """Run the replica on an empty server and record it. Runs on a loop of a `RunningClock`."""
    listener = RecordingListener()
    listener.pages = list(PAGES)
    store = RedisStore(locator(f"redis://127.0.0.1:{server.port}", "turnout", 60.0), CONFIG, Random(7))
    with client(server) as admin, admin.pubsub() as channel:
        channel.subscribe(CHANNEL)
        published: list[str] = []

        async def until(count: int) -> None:
            def all_here() -> bool:
                while (message := channel.get_message(timeout=0)) is not None:
                    if message["type"] == "message":
                        published.append(_text(message["data"]))
                return len(published) >= count

            await eventually(all_here)

        await store.start(NAME, listener)
        await until(1)
        await _make_changes(store, until)
        pass_time(2 * CONFIG.checkpoint_s)  # the lease has been renewed, too
        await until(8)
        await eventually(lambda: admin.exists("{turnout}:checkpoint") and not admin.exists("{turnout}:lock"))
        store.placed(*LATE)
        await until(9)
        keys = {_text(key): _content(admin, key) for key in sorted(admin.keys("{turnout}:*"))}
        await store.aclose()
        await until(10)
    return Recording(published, keys)


async def _make_changes(store: RedisStore, until: Callable[[int], Any]) -> None:
    """Make the changes: load, placements and reports, load again, policies, figures of a trial."""
    for pod, numbers in BUSY.items():
        store.announce(pod, numbers)
    await until(2)
    for pod, blocks in EARLY:
        if blocks:
            store.placed(pod, blocks)
        else:
            store.forgot(pod)
    for pod, report in REPORTS.items():
        store.report(pod, report)
    await until(3)
    for pod, numbers in IDLE.items():
        store.announce(pod, numbers)
    await until(4)
    await store.put_policy("default", PLAIN, if_generation=0)
    await store.put_policy("chat", PolicyRecord("p2c", {}), if_generation=None)
    await store.put_policy("chat", ON_TRIAL, if_generation=1)
    await store.share_trial("chat", 2, NAME, FIGURES)
    await until(7)


def put(admin: Any, recording: Recording, skip: str = "") -> None:
    """Write the keys to another server with a running lease; keys that begin with `skip` are left out."""
    for key, (kind, value) in recording.keys.items():
        if skip and key.startswith(skip):
            continue
        if kind == "hash":
            admin.hset(key, mapping={_bytes(field): _bytes(each) for field, each in value.items()})
        elif kind == "zset":
            admin.zadd(key, dict.fromkeys(value, (admin.time()[0] + 60) * 1000))
        elif kind == "stream":
            for log_id, fields in value:
                admin.xadd(key, {field: _bytes(each) for field, each in fields.items()}, id=log_id)
        elif kind == "list":
            admin.rpush(key, *map(_bytes, value))
        elif kind == "set":
            admin.sadd(key, *value)
        else:
            admin.set(key, _bytes(value))


def publish(admin: Any, message: str) -> None:
    """Publish one of the recorded messages."""
    admin.publish(CHANNEL, _bytes(message))


def comparable(recording: Recording) -> Any:
    """The recording without values that depend on server and clock: log ids, times, the order of a Lua table."""
    # A script makes a policy's message from a Lua table; the replica writes all other messages.
    published = [msgspec.msgpack.decode(_bytes(each)) if "\xa6policy" in each else each for each in recording.published]
    return _comparable([published, recording.keys])


_GIVEN: Final = (
    (re.compile(r"\d{13}-\d+"), "<log id>"),
    (re.compile(r"^\d{13}(?=:|$)"), "<ms>"),
    (re.compile("(?<=\xa5age_s\xcb).{8}", re.DOTALL), "<age>"),
)


def _comparable(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _comparable(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_comparable(each) for each in value]
    if isinstance(value, str):
        for pattern, same in _GIVEN:
            value = pattern.sub(same, value)
    return value


def _content(admin: Any, key: bytes) -> tuple[str, Any]:
    kind = admin.type(key).decode()
    if kind == "hash":
        return kind, {_text(field): _text(value) for field, value in sorted(admin.hgetall(key).items())}
    if kind == "zset":
        return kind, [_text(member) for member in admin.zrange(key, 0, -1)]
    if kind == "stream":
        return kind, [
            (_text(log_id), {_text(field): _text(value) for field, value in fields.items()})
            for log_id, fields in admin.xrange(key)
        ]
    if kind == "list":
        return kind, [_text(each) for each in admin.lrange(key, 0, -1)]
    if kind == "set":
        return kind, sorted(map(_text, admin.smembers(key)))
    return kind, _text(admin.get(key))


def _text(data: bytes) -> str:
    return data.decode("latin-1")


def _bytes(text: str) -> bytes:
    return text.encode("latin-1")
