"""A session over real links: what ends it, what only starts a new incarnation, and what is counted."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterator, Mapping
from random import Random

import pytest
import redis as redis_py

from schedulers.types import PodId
from statesync.errors import StoreUnavailable
from statesync.settings import Sync
from statesync.store.redis.connection import RespConnection, ServerAddress
from statesync.store.redis.keys import RedisKeys
from statesync.store.redis.ledger import PendingUpdates
from statesync.store.redis.messages import ChangesMessage, Envelope, HeartbeatMessage, Message
from statesync.store.redis.presence import OwnPods
from statesync.store.redis.session import RENEWALS, NameTaken, Session
from statesync.types import InflightNumbers
from tests.fakes.recording_listener import RecordingListener, eventually
from tests.fakes.redis_server import RedisServer, redis_server
from tests.fakes.virtual_time import RunningClock, pass_time, real_moment, run_on

A = PodId("a")
LEASES = "{turnout}:leases"
ONE = InflightNumbers(1, 1, 1, 1)
CONFIG = Sync(lease_s=60.0, timeout_s=1e6)
"""A time limit that no answer exceeds, also when a test moves the clock past a lease."""
RENEWAL_S = CONFIG.lease_s / RENEWALS


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    with redis_server() as running:
        yield running


def linked(session: Session) -> bool:
    return session.link is not None


class Scene:
    """An administrator's link, and sessions that live until the scene ends."""

    def __init__(self, address: ServerAddress, admin: RespConnection) -> None:
        self.address = address
        self.admin = admin
        self.lives: list[asyncio.Task[None]] = []
        self.sessions: list[Session] = []

    async def begin(self, name: str, listener: RecordingListener | None = None) -> Session:
        session = Session(
            name, listener or RecordingListener(), PendingUpdates(), OwnPods(), RedisKeys("turnout"), CONFIG, Random()
        )
        self.sessions.append(session)
        await self.live(session)
        return session

    async def live(self, session: Session) -> None:
        warm = asyncio.Event()
        life = asyncio.get_running_loop().create_task(session.live(self.address, warm.set))
        self.lives.append(life)
        waiting = asyncio.get_running_loop().create_task(warm.wait())
        await asyncio.wait([life, waiting], return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()

    async def pass_renewal(self) -> None:
        """Moves the server's and the local time forward by one renewal together, once every session waits for it."""
        await self.settle()
        with redis_py.Redis(port=self.address.port) as server:
            for member in server.zrange(LEASES, 0, -1):
                server.zincrby(LEASES, -RENEWAL_S * 1000, member)
        pass_time(RENEWAL_S)
        await real_moment()

    async def settle(self) -> None:
        """Waits until every answer has arrived and the tasks that waited for them sleep again."""
        while any(connection._owed for session in self.sessions for connection in session._open):
            await real_moment()
        await real_moment()

    async def whole(self, name: str) -> bool:
        """Whether a lease has just been renewed."""
        (seconds, _), ends = await self.admin.pipeline([("TIME",), ("ZSCORE", LEASES, name)])
        return float(ends) / 1000 - int(seconds) > CONFIG.lease_s - RENEWAL_S / 2

    async def end(self) -> None:
        for life in self.lives:
            life.cancel()
        await asyncio.gather(*self.lives, return_exceptions=True)
        for session in self.sessions:
            session.stop()


def play(server: RedisServer, scene: Callable[[Scene], Coroutine[None, None, None]]) -> None:
    async def run() -> None:
        address = ServerAddress("127.0.0.1", server.port)
        admin = await RespConnection.open(address, timeout_s=CONFIG.timeout_s, name="test")
        await admin.call("FLUSHALL")
        played = Scene(address, admin)
        try:
            await scene(played)
        finally:
            await played.end()
            admin.close()

    run_on(RunningClock(), run())


@pytest.mark.parametrize("kind", ["normal", "pubsub"])
def test_losing_either_connection_ends_the_link_and_another_can_follow(server: RedisServer, kind: str) -> None:
    async def scene(on: Scene) -> None:
        session = await on.begin("left")
        token, trips = session.token, session.traffic()[0]
        await on.admin.call("CLIENT", "KILL", "TYPE", kind, "SKIPME", "yes")
        with pytest.raises(StoreUnavailable, match="lost"):
            await on.lives[0]
        assert not linked(session)
        assert session.traffic()[0] >= trips
        await on.live(session)
        assert linked(session)
        assert (session.links, session.lease_losses) == (2, 0)
        assert session.token == token

    play(server, scene)


def test_a_lost_lease_starts_a_new_incarnation_over_the_same_link(server: RedisServer) -> None:
    async def scene(on: Scene) -> None:
        session = await on.begin("left")
        token = session.token
        await on.admin.call("DEL", "{turnout}:tokens")
        pass_time(RENEWAL_S)
        await eventually(lambda: session.lease_losses == 1 and session.link is not None)
        assert session.token != token
        assert await on.admin.call("HGET", "{turnout}:tokens", "left") == session.token.encode()
        assert session.links == 1

    play(server, scene)


def test_the_name_of_a_live_replica_is_refused_and_that_of_a_lapsed_one_taken(server: RedisServer) -> None:
    async def scene(on: Scene) -> None:
        await on.begin("left")
        refused = asyncio.get_running_loop().create_task(on.begin("left"))
        while not refused.done():
            await on.pass_renewal()
            while not await on.whole("left"):  # noqa: ASYNC110  the server sends no event
                await asyncio.sleep(0.001)
        with pytest.raises(NameTaken, match="'left'"):
            await on.lives[1]
        on.lives[0].cancel()  # It ends without returning its lease.
        await asyncio.wait([on.lives[0]])
        replacing = asyncio.get_running_loop().create_task(on.begin("left"))
        while not replacing.done():
            await on.pass_renewal()
        again = replacing.result()
        assert await on.admin.call("HGET", "{turnout}:tokens", "left") == again.token.encode()

    play(server, scene)


def test_a_replica_that_starts_gets_the_updates_that_a_lone_replica_held_back_at_once(
    server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("statesync.store.redis.syncer.ALONE_S", 1000.0)

    async def scene(on: Scene) -> None:
        left = await on.begin("left")
        left.syncer.pending.announce(A, ONE)
        left.syncer.pending.placed(A, [1])
        listener = RecordingListener()
        await on.begin("right", listener)
        await eventually(lambda: listener.inflight.get("left") == {A: ONE})
        assert listener.placed == [(A, (1,))]

    play(server, scene)


def test_a_replica_s_own_updates_are_not_read_again(server: RedisServer, monkeypatch: pytest.MonkeyPatch) -> None:
    async def scene(on: Scene) -> None:
        left = await on.begin("left")
        read: list[Message] = []
        envelope = left.receiver.reader.envelope

        def seen(data: bytes) -> Envelope | None:
            found = envelope(data)
            read.extend([found.message] if found is not None else [])
            return found

        monkeypatch.setattr(left.receiver.reader, "envelope", seen)
        for blocks in ([], [1, 2]):
            left.syncer.pending.announce(A, ONE)
            left.syncer.pending.placed(A, blocks)
            await left.syncer.finish()
            await eventually(lambda: left.view_age.silent_s(asyncio.get_running_loop().time()) == 0.0)
        pass_time(RENEWAL_S)
        await eventually(lambda: any(isinstance(message, HeartbeatMessage) for message in read))
        assert not any(isinstance(message, ChangesMessage) for message in read)

    play(server, scene)


def test_an_error_of_the_listener_costs_the_update_and_not_the_link(
    server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    class Broken(RecordingListener):
        def replica_inflight(self, replica: str, numbers: Mapping[PodId, InflightNumbers], full: bool, /) -> None:
            raise RuntimeError("broken")

    async def scene(on: Scene) -> None:
        right = await on.begin("right")
        right.syncer.pending.announce(A, ONE)
        await right.syncer.finish()
        listener = Broken()
        left = await on.begin("left", listener)
        right.syncer.pending.placed(A, [1])
        await right.syncer.finish()
        await eventually(lambda: listener.placed == [(A, (1,))])
        assert left.receiver.reader.unreadable >= 1

    play(server, scene)
    assert sum("is ignored: broken" in record.getMessage() for record in caplog.records) == 1


def test_leaving_sends_pending_updates_and_removes_everything_of_this_replica(server: RedisServer) -> None:
    async def scene(on: Scene) -> None:
        listener = RecordingListener()
        left = await on.begin("left")
        await on.begin("right", listener)
        left.syncer.pending.announce(A, ONE)
        left.syncer.pending.placed(A, [1])
        await left.leave()
        await eventually(lambda: listener.gone == ["left"])
        assert listener.placed == [(A, (1,))]
        assert await on.admin.call("ZRANGE", "{turnout}:leases", 0, -1) == [b"right"]
        assert await on.admin.call("HKEYS", "{turnout}:tokens") == [b"right"]
        assert not await on.admin.call("EXISTS", "{turnout}:inflight:left")

    play(server, scene)


def test_a_channel_without_echoes_ends_the_link(server: RedisServer) -> None:
    async def scene(on: Scene) -> None:
        session = await on.begin("left")
        session.view_age.echoed = lambda now: None  # type: ignore[method-assign]
        await on.pass_renewal()
        await on.settle()
        assert linked(session)
        pass_time(2 * CONFIG.timeout_s)
        with pytest.raises(StoreUnavailable, match="what is published does not come back"):
            await on.lives[0]

    play(server, scene)
