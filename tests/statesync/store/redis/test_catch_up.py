"""Reading the keys after joining or missing a message, and restoring what a server lost."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterator

import pytest

from schedulers.types import PodId
from statesync.errors import StoreUnavailable
from statesync.settings import Sync
from statesync.store.protocol import PolicyRecord
from statesync.store.redis.connection import RespConnection, ServerAddress
from statesync.store.redis.messages import ChangesMessage, pack, standing
from statesync.store.redis.session import RENEWALS
from statesync.store.redis.store import RedisStore
from statesync.types import InflightNumbers
from tests.fakes.recording_listener import RecordingListener, eventually
from tests.fakes.redis_server import RedisServer, redis_server
from tests.fakes.virtual_time import RunningClock, pass_time, real_moment, run_on

A, B = PodId("a"), PodId("b")
CONFIG = Sync(lease_s=60.0, timeout_s=1e6)
"""A time limit that no answer exceeds, also when a test moves the clock past a lease."""
FOUR, FIVE = InflightNumbers(4, 4, 4, 4), InflightNumbers(5, 5, 5, 5)


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    with redis_server() as running:
        yield running


Scene = Callable[[RedisStore, RecordingListener, RespConnection], Coroutine[None, None, None]]


def play(server: RedisServer, scene: Scene, prepare: Callable[[RespConnection], Coroutine[None, None, None]]) -> None:
    async def run() -> None:
        admin = await RespConnection.open(
            ServerAddress("127.0.0.1", server.port), timeout_s=CONFIG.timeout_s, name="test"
        )
        await admin.call("FLUSHALL")
        await prepare(admin)
        store, listener = RedisStore.open(f"redis://127.0.0.1:{server.port}", CONFIG), RecordingListener()
        await store.start("me", listener)
        try:
            await scene(store, listener, admin)
        finally:
            await store.aclose()
            admin.close()

    run_on(RunningClock(), run())


async def ghost(admin: RespConnection, left_ms: int = 60_000) -> None:
    """A replica that exists only as keys."""
    seconds, _ = await admin.call("TIME")
    await admin.call("ZADD", "{turnout}:leases", int(seconds) * 1000 + left_ms, "ghost")
    await admin.call("HSET", "{turnout}:tokens", "ghost", "t")
    await admin.call("HSET", "{turnout}:inflight:ghost", "@", standing("t", 4), "a", pack(FOUR), "b", pack(FIVE))


async def nothing(admin: RespConnection) -> None:
    assert await admin.call("DBSIZE") == 0


def test_a_live_replica_s_numbers_are_read_and_lapse_while_it_is_silent(server: RedisServer) -> None:
    async def scene(store: RedisStore, listener: RecordingListener, admin: RespConnection) -> None:
        assert listener.inflight == {"ghost": {A: FOUR, B: FIVE}}
        assert [replica.id for replica in store.replicas()] == ["me", "ghost"]
        while not listener.gone:
            pass_time(CONFIG.lease_s / RENEWALS)
            await real_moment()
        assert listener.gone == ["ghost"]

    play(server, scene, ghost)


def test_a_replica_that_was_paused_reads_unread_messages_before_others_lapse(server: RedisServer) -> None:
    async def scene(store: RedisStore, listener: RecordingListener, admin: RespConnection) -> None:
        pass_time(2 * CONFIG.lease_s)
        for _ in range(5):
            await real_moment()
        assert listener.gone == []
        pass_time(CONFIG.lease_s / 5)
        await eventually(lambda: listener.gone == ["ghost"])

    play(server, scene, ghost)


def test_a_lapsed_replica_s_share_is_not_read(server: RedisServer) -> None:
    async def lapsed(admin: RespConnection) -> None:
        await ghost(admin, left_ms=-5_000)

    async def scene(store: RedisStore, listener: RecordingListener, admin: RespConnection) -> None:
        assert listener.inflight == {}
        assert [replica.id for replica in store.replicas()] == ["me"]

    play(server, scene, lapsed)


def test_after_a_gap_the_share_is_read_again(server: RedisServer) -> None:
    async def scene(store: RedisStore, listener: RecordingListener, admin: RespConnection) -> None:
        await admin.call("HSET", "{turnout}:inflight:ghost", "@", standing("t", 7), "b", pack(FOUR))
        message = ChangesMessage(v=1, replica="ghost", token="t", seq=7, numbers={A: FIVE})
        await admin.call("PUBLISH", "{turnout}:news:0", pack(["", message]))
        await eventually(lambda: listener.inflight["ghost"][B] == FOUR)
        assert store.health().reconnects == 0

    play(server, scene, ghost)


def test_an_unknown_replica_is_read_at_its_first_message(server: RedisServer) -> None:
    async def scene(store: RedisStore, listener: RecordingListener, admin: RespConnection) -> None:
        await ghost(admin)
        message = ChangesMessage(v=1, replica="ghost", token="t", seq=4, numbers={})
        await admin.call("PUBLISH", "{turnout}:news:0", pack(["", message]))
        await eventually(lambda: listener.inflight == {"ghost": {A: FOUR, B: FIVE}})

    play(server, scene, nothing)


async def stored(store: RedisStore, pool: str) -> PolicyRecord | None:
    """The pool's record, once the link is there: a lost lease makes it anew."""
    while True:
        try:
            return await store.policy(pool)
        except StoreUnavailable:
            await asyncio.sleep(0.01)


def test_a_policy_that_the_server_lost_is_put_back_and_its_newer_one_stays(server: RedisServer) -> None:
    async def scene(store: RedisStore, listener: RecordingListener, admin: RespConnection) -> None:
        await store.put_policy("lost", PolicyRecord("p2c", {}), if_generation=0)
        await store.put_policy("newer", PolicyRecord("p2c", {}), if_generation=0)
        newer = b'{"generation":9,"name":"random","params":{},"v":1}'
        known = (("RPUSH", "{turnout}:policy:newer", newer), ("SADD", "{turnout}:pools", "newer"))
        await admin.pipeline([("MULTI",), ("FLUSHALL",), *known, ("EXEC",)])
        pass_time(CONFIG.lease_s / RENEWALS)
        await eventually(lambda: listener.policies == {"newer": PolicyRecord("random", {}, 9)})
        await eventually(lambda: store.health().connected)
        while not await admin.call("EXISTS", "{turnout}:policy:lost"):  # noqa: ASYNC110  the server sends no event
            await asyncio.sleep(0.01)
        assert await stored(store, "lost") == PolicyRecord("p2c", {}, 1)
        assert await stored(store, "newer") == PolicyRecord("random", {}, 9)

    play(server, scene, nothing)
