"""When changes are sent, over a real server. Pausing it delays its answers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from random import Random

import pytest

from schedulers.types import PodId
from statesync.errors import StateError
from statesync.settings import Sync
from statesync.store.redis.connection import RespConnection, ServerAddress
from statesync.store.redis.keys import RedisKeys
from statesync.store.redis.lease import LiveReplicas
from statesync.store.redis.ledger import PendingUpdates
from statesync.store.redis.messages import MessageDecoder
from statesync.store.redis.syncer import ALONE_S, Syncer
from statesync.store.redis.view_age import ViewAge
from statesync.tasks import spawn
from statesync.types import InflightNumbers
from tests.fakes.recording_listener import eventually
from tests.fakes.redis_server import RedisServer, redis_server
from tests.fakes.virtual_time import Clock, pass_time, run_on

A, B = PodId("a"), PodId("b")
KEYS = RedisKeys("turnout")


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    with redis_server() as running:
        yield running


def n(count: int) -> InflightNumbers:
    return InflightNumbers(count, count, count, count)


async def later(seconds: float = 1.0) -> None:
    """Moves the clock forward and runs what is due here. The server needs real time."""
    pass_time(seconds)
    for _ in range(3):  # due timers, their `call_soon` callbacks, and the callbacks of those
        await asyncio.sleep(0)


class Scene:
    """A syncer, its link, and the errors that it reported."""

    def __init__(self, link: RespConnection, config: Sync | None = None) -> None:
        self.link = link
        self.pending = PendingUpdates()
        self.view_age = ViewAge(0.0)
        self.live_replicas = LiveReplicas("me", 5.0)
        self.live_replicas.seen("other", "its token", 0.0)
        self.syncer = Syncer("me", self.pending, KEYS, config or Sync(), self.view_age, self.live_replicas)
        self.token = f"{Random().getrandbits(64):016x}"
        self.troubles: list[StateError | None] = []

    async def lease(self) -> None:
        await self.link.call("FLUSHALL")
        await self.link.call("HSET", KEYS.tokens, "me", self.token)

    def open(self) -> None:
        self.syncer.open(self.link, self.token, self.troubles.append)

    async def hash(self) -> dict[bytes, bytes]:
        stored: dict[bytes, bytes] = await self.link.call("HGETALL", KEYS.inflight("me"))
        return stored


def play(
    server: RedisServer, scene: Callable[[Scene], Coroutine[None, None, None]], config: Sync | None = None
) -> None:
    async def run() -> None:
        link = await RespConnection.open(ServerAddress("127.0.0.1", server.port), timeout_s=1e6, name="test")
        played = Scene(link, config)
        await played.lease()
        await scene(played)
        played.syncer.close()
        link.close()

    run_on(Clock(), run())


def test_it_starts_with_all_numbers_and_removes_the_server_s_old_ones(server: RedisServer) -> None:
    async def scene(on: Scene) -> None:
        await on.link.call("HSET", KEYS.inflight("me"), "old", "x")
        on.pending.announce(A, n(1))
        assert on.link.round_trips == 4
        on.open()
        await on.syncer.finish()
        stored = await on.hash()
        assert stored.keys() == {b"@", b"a"}
        assert MessageDecoder().numbers(stored[b"a"]) == n(1)
        assert stored[b"@"].decode() == f"{on.token} 1"
        assert on.troubles == []

    play(server, scene)


def test_updates_during_a_request_are_sent_together(server: RedisServer) -> None:
    async def scene(on: Scene) -> None:
        on.open()
        await on.syncer.finish()
        before = on.link.round_trips
        server.pause()
        try:
            on.pending.announce(A, n(0))
            await later()
            assert on.link.round_trips == before + 1
            for count in range(1, 1000):
                on.pending.announce(A, n(count))
                on.pending.placed(B, [count])
                if count % 100 == 0:
                    await later()
            assert on.link.round_trips == before + 1
        finally:
            server.resume()
        await on.syncer.finish()
        assert on.link.round_trips <= before + 1 + 4  # 999 placements, 256 at a time
        assert MessageDecoder().numbers((await on.hash())[b"a"]) == n(999)
        entries = await on.link.call("XRANGE", KEYS.log, "-", "+")
        packed = [MessageDecoder().entry(fields[1]) for _, fields in entries]
        assert sum(len(entry.placements) for entry in packed if entry is not None) == 999

    play(server, scene)


SLOW = Sync(interval_s=100.0)
"""Intervals that pass only when a test moves the clock."""


def test_an_update_that_lowers_a_load_waits_for_a_dispatch_and_is_sent_with_it(server: RedisServer) -> None:
    async def scene(on: Scene) -> None:
        on.pending.announce(A, n(2))
        on.open()
        await on.syncer.finish()
        sent = on.link.round_trips
        await later(SLOW.interval_s)
        on.pending.announce(A, InflightNumbers(requests=1, dispatched=2))
        await later(SLOW.interval_s)
        assert on.link.round_trips == sent
        on.pending.announce(B, n(1))
        await later(0.0)
        assert on.link.round_trips == sent + 1
        await on.syncer.finish()
        stored = await on.hash()
        assert MessageDecoder().numbers(stored[b"a"]) == InflightNumbers(requests=1, dispatched=2)
        assert MessageDecoder().numbers(stored[b"b"]) == n(1)

    play(server, scene, SLOW)


def test_without_a_dispatch_it_is_sent_after_four_intervals_or_at_once_if_they_are_over(server: RedisServer) -> None:
    async def scene(on: Scene) -> None:
        on.pending.announce(A, n(3))
        on.open()
        await on.syncer.finish()
        on.view_age.linked()
        sent = on.link.round_trips
        on.pending.announce(A, InflightNumbers(requests=2, dispatched=3))
        await later(3.9 * SLOW.interval_s)
        assert on.link.round_trips == sent
        await later(0.1 * SLOW.interval_s)
        assert on.link.round_trips == sent + 1
        assert on.view_age.age_s(asyncio.get_running_loop().time()) == pytest.approx(SLOW.interval_s)
        await eventually(lambda: "idle" in repr(on.syncer))
        await later(4 * SLOW.interval_s)
        on.pending.announce(A, InflightNumbers(dispatched=3))
        await later(0.0)
        assert on.link.round_trips == sent + 2

    play(server, scene, SLOW)


def test_a_dispatch_waits_for_one_interval_since_the_last_flush(server: RedisServer) -> None:
    async def scene(on: Scene) -> None:
        on.open()
        await on.syncer.finish()
        sent = on.link.round_trips
        on.pending.announce(A, n(1))
        await later(0.9 * SLOW.interval_s)
        assert on.link.round_trips == sent
        await later(0.1 * SLOW.interval_s)
        assert on.link.round_trips == sent + 1

    play(server, scene, SLOW)


def test_without_peers_a_dispatch_waits_with_the_rest_and_the_view_does_not_age(server: RedisServer) -> None:
    async def scene(on: Scene) -> None:
        on.live_replicas.gone("other", "its token")
        on.open()
        await on.syncer.finish()
        on.view_age.linked()
        sent = on.link.round_trips
        for count in range(1, 20):
            on.pending.announce(A, n(count))
            await later(ALONE_S / 20)
        assert on.link.round_trips == sent
        await later(ALONE_S / 20)
        assert on.link.round_trips == sent + 1
        await on.syncer.finish()
        assert MessageDecoder().numbers((await on.hash())[b"a"]) == n(19)
        assert on.view_age.silent_s(asyncio.get_running_loop().time()) < ALONE_S / 2

    play(server, scene)


def test_changes_held_back_without_peers_are_sent_as_soon_as_a_replica_comes(server: RedisServer) -> None:
    async def scene(on: Scene) -> None:
        on.live_replicas.gone("other", "its token")
        on.open()
        await on.syncer.finish()
        sent = on.link.round_trips
        on.pending.announce(A, n(1))
        await later(ALONE_S / 2)
        on.syncer.hurry()
        await later(0.0)
        assert on.link.round_trips == sent, "no other replica is live"
        on.live_replicas.seen("other", "its token", 0.0)
        on.syncer.hurry()
        await later(0.0)
        assert on.link.round_trips == sent + 1

    play(server, scene)


def test_one_waiter_for_the_last_flush_may_be_cancelled_while_another_waits(server: RedisServer) -> None:
    async def scene(on: Scene) -> None:
        on.open()
        await on.syncer.finish()
        server.pause()
        try:
            on.pending.announce(A, n(1))
            impatient = spawn(on.syncer.finish(), "cancelled waiter")
            waiting = spawn(on.syncer.finish(), "other waiter")
            await later(0.0)
            impatient.cancel()
            await asyncio.wait([impatient])
            assert not waiting.done()
        finally:
            server.resume()
        await asyncio.gather(waiting, on.syncer.finish())
        assert MessageDecoder().numbers((await on.hash())[b"a"]) == n(1)

    play(server, scene)


def test_a_lost_lease_is_reported_once_and_no_update_is_lost(server: RedisServer) -> None:
    async def scene(on: Scene) -> None:
        on.open()
        await on.syncer.finish()
        await on.link.call("DEL", KEYS.tokens)
        on.pending.placed(A, [1])
        on.pending.announce(A, n(1))
        await later()
        await eventually(lambda: on.troubles == [None])
        on.pending.placed(A, [2])
        assert not await on.link.call("EXISTS", KEYS.log)
        await on.link.call("HSET", KEYS.tokens, "me", "another")
        on.syncer.open(on.link, "another", on.troubles.append)
        await on.syncer.finish()
        (_, fields), *more = await on.link.call("XRANGE", KEYS.log, "-", "+")
        entry = MessageDecoder().entry(fields[1])
        assert entry is not None
        assert not more
        assert [placement.blocks[0] for placement in entry.placements] == [1, 2]
        assert (await on.hash())[b"@"] == b"another 1"
        assert on.troubles == [None]

    play(server, scene)


def test_a_server_that_refuses_to_write_is_reported_with_its_error(server: RedisServer) -> None:
    async def scene(on: Scene) -> None:
        on.open()
        await on.syncer.finish()
        await on.link.call("REPLICAOF", "127.0.0.1", "1")
        on.pending.announce(A, n(1))
        await later()
        await eventually(lambda: bool(on.troubles))
        await on.link.call("REPLICAOF", "NO", "ONE")
        assert "READONLY" in str(on.troubles[0])

    play(server, scene)


def test_a_lost_link_keeps_the_updates_that_were_being_sent(server: RedisServer) -> None:
    async def scene(on: Scene) -> None:
        on.open()
        await on.syncer.finish()
        server.pause()
        try:
            on.pending.placed(A, [1])
            before = on.link.round_trips
            await later()
            assert on.link.round_trips == before + 1
            on.link.close()
            on.syncer.close()
            await eventually(lambda: on.pending.waiting)
        finally:
            server.resume()
        assert list(on.pending.placements) == [(A, [1])]
        assert on.troubles == []

    play(server, scene)


def test_over_a_lost_link_nothing_is_sent_or_waited_for_and_no_update_is_lost(server: RedisServer) -> None:
    async def scene(on: Scene) -> None:
        on.open()
        await on.syncer.finish()
        on.pending.placed(A, [1])
        on.link.close()
        await on.syncer.finish()
        assert on.pending.waiting
        await eventually(lambda: "idle" in repr(on.syncer) and on.pending.waiting)
        assert list(on.pending.placements) == [(A, [1])]
        on.syncer.open(on.link, on.token, on.troubles.append)
        on.pending.placed(A, [2])
        await on.syncer.finish()
        await eventually(lambda: [pod for pod, _ in on.pending.placements] == [A, A])
        assert on.troubles == []

    play(server, scene)


def test_a_pod_that_was_idle_for_long_leaves_the_hash(server: RedisServer) -> None:
    async def scene(on: Scene) -> None:
        on.pending.announce(A, InflightNumbers(dispatched=3))
        on.open()
        await on.syncer.finish()
        on.pending.sweep(0.0)
        on.pending.sweep(60.0)
        on.pending.announce(B, n(1))
        await on.syncer.finish()
        assert (await on.hash()).keys() == {b"@", b"b"}

    play(server, scene)
