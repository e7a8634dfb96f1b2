"""RedisStore on a real server without faults: what is stored, in which keys, and how much is sent."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from random import Random

import pytest

from schedulers.types import PodId
from statesync.settings import Sync
from statesync.store.protocol import PolicyRecord
from statesync.store.redis.connection import ServerAddress
from statesync.store.redis.keys import LOG_TTL_S, REPORT_TTL_S
from statesync.store.redis.locate import FixedServer
from statesync.store.redis.session import RENEWALS
from statesync.store.redis.store import BackOff, RedisStore
from statesync.types import EngineReport, InflightNumbers
from tests.fakes.recording_listener import RecordingListener, eventually
from tests.fakes.redis_replicas import RARE, STEADY, A, B, client, page, play, replica
from tests.fakes.redis_server import RedisServer, redis_server
from tests.fakes.simulated_network import ServerEnd, SimulatedPath, running, simulated_loop
from tests.fakes.virtual_time import RunningClock, run_on


@pytest.fixture(scope="module")
def lasting() -> Iterator[RedisServer]:
    with redis_server() as made:
        yield made


@pytest.fixture
def server(lasting: RedisServer) -> RedisServer:
    """An empty server."""
    with client(lasting) as admin:
        admin.flushall()
    return lasting


def test_a_lost_lease_is_acquired_again_and_the_share_is_sent_again(server: RedisServer) -> None:
    async def scene(
        left: RedisStore, left_listener: RecordingListener, right: RedisStore, right_listener: RecordingListener
    ) -> None:
        left.announce(A, InflightNumbers(2, 2, 2, 2))
        await eventually(lambda: "left" in right_listener.inflight)
        with client(server) as admin:
            admin.hdel("{turnout}:tokens", "left")
            admin.delete("{turnout}:inflight:left")
        left.announce(B, InflightNumbers(1, 1, 1, 1))
        left.placed(B, [5])
        await eventually(lambda: left.health().lease_losses == 1 and B in right_listener.inflight["left"])
        assert right_listener.inflight["left"] == {A: InflightNumbers(2, 2, 2, 2), B: InflightNumbers(1, 1, 1, 1)}
        await eventually(lambda: right_listener.placed == [(B, (5,))])
        assert right_listener.gone == []
        assert right.health().lease_losses == 0

    play(server, scene)


def test_scripts_that_the_server_forgot_are_sent_again(server: RedisServer) -> None:
    async def scene(
        left: RedisStore, left_listener: RecordingListener, right: RedisStore, right_listener: RecordingListener
    ) -> None:
        with client(server) as admin:
            admin.script_flush()
            left.announce(A, InflightNumbers(1, 1, 1, 1))
            left.placed(A, [1])
            await eventually(lambda: bool(right_listener.placed))
            admin.script_flush()
            assert (await left.put_policy("default", PolicyRecord("p2c", {}), if_generation=0)).generation == 1
        assert right_listener.placed == [(A, (1,))]
        assert left.health().reconnects == left.health().lease_losses == 0

    play(server, scene)


def test_round_trips_are_bounded_for_any_announcements(server: RedisServer) -> None:
    async def scene(
        left: RedisStore, left_listener: RecordingListener, right: RedisStore, right_listener: RecordingListener
    ) -> None:
        loop = asyncio.get_running_loop()
        began, before = loop.time(), left.health().round_trips
        for n in range(200):
            for k in range(13):
                left.announce(PodId(f"10.0.0.{k}:8000"), InflightNumbers(n, n, n, n))
            left.placed(A, [n])
            await asyncio.sleep(0.0025)
        took_s = loop.time() - began
        # Flushes and renewals, and one more of each.
        most = took_s / RARE.interval_s + took_s / (RARE.lease_s / RENEWALS) + 2
        assert left.health().round_trips - before <= most
        await eventually(
            lambda: len(right_listener.placed) == 200 and right_listener.inflight["left"][A].requests == 199
        )

    play(server, scene, RARE)


def test_a_share_of_thousands_of_pods_is_one_message_and_one_hash(server: RedisServer) -> None:
    async def scene(
        left: RedisStore, left_listener: RecordingListener, right: RedisStore, right_listener: RecordingListener
    ) -> None:
        share = {PodId(f"pod-{n}"): InflightNumbers(n, n, n, n) for n in range(1, 5001)}
        for pod, numbers in share.items():
            left.announce(pod, numbers)
            left.report(pod, EngineReport(queued=numbers.requests))
        await eventually(lambda: right_listener.inflight.get("left") == share)
        async with replica(server, "late") as (_, late_listener):
            assert late_listener.inflight == {"left": share}
            assert len(late_listener.reports) == 5000

    play(server, scene)


def test_every_key_has_the_documented_prefix_and_ttl(server: RedisServer) -> None:
    async def scene(
        left: RedisStore, left_listener: RecordingListener, right: RedisStore, right_listener: RecordingListener
    ) -> None:
        left_listener.pages = right_listener.pages = [page(A, 1, 2)]
        left.report(A, EngineReport(queued=1))
        await left.put_policy("default", PolicyRecord("p2c", {}), if_generation=None)
        left.announce(A, InflightNumbers(1, 1, 1, 1))
        left.placed(A, [1])
        lease_ms, day_ms = int(4 * STEADY.lease_s * 1000), LOG_TTL_S * 1000
        most_ms = {
            "leases": lease_ms,
            "tokens": lease_ms,
            "inflight:left": lease_ms,
            "inflight:right": lease_ms,
            "reports": REPORT_TTL_S * 1000,
            "log": day_ms,
            "checkpoint": day_ms,
            "pools": -1,
            "policy:default": -1,
            "epoch": -1,
        }
        with client(server) as admin:
            await eventually(lambda: bool(admin.exists("{turnout}:checkpoint")))
            name = admin.hget("{turnout}:checkpoint", "name").decode()
            most_ms[f"pages:{name}"] = day_ms
            ttl_ms = {key.decode().removeprefix("{turnout}:"): admin.pttl(key) for key in admin.keys("*")}
        assert ttl_ms.keys() - {"lock"} == most_ms.keys()
        for key, most in most_ms.items():
            assert (ttl_ms[key] == -1) if most == -1 else (most * 0.5 < ttl_ms[key] <= most), key

    play(server, scene)


def test_a_checkpoint_shortens_the_log_and_is_read_by_a_later_replica(server: RedisServer) -> None:
    async def scene(
        left: RedisStore, left_listener: RecordingListener, right: RedisStore, right_listener: RecordingListener
    ) -> None:
        left_listener.pages = right_listener.pages = [page(A, 1, 2), page(B, 3)]
        for n in range(5):
            left.placed(A, [n])
            await eventually(lambda n=n: len(right_listener.placed) == n + 1)  # type: ignore[misc]
        with client(server) as admin:
            await eventually(lambda: admin.xlen("{turnout}:log") == 1)
        left_listener.pages = right_listener.pages = []
        async with replica(server, "late", RARE) as (_, late_listener):
            assert late_listener.restored_pages == [page(A, 1, 2), page(B, 3)]
            assert late_listener.placed == []
            left.placed(B, [9])
            await eventually(lambda: late_listener.placed == [(B, (9,))])

    play(server, scene)


def test_two_databases_of_one_server_share_nothing(server: RedisServer) -> None:
    async def run() -> None:
        async with replica(server, "left") as (left, left_listener):
            other, other_listener = RedisStore.open(f"redis://127.0.0.1:{server.port}/1", STEADY), RecordingListener()
            await other.start("left", other_listener)
            other.announce(B, InflightNumbers(1, 1, 1, 1))
            left.announce(A, InflightNumbers(1, 1, 1, 1))
            await eventually(lambda: left.age_s() > 0.0 and other.age_s() > 0.0)
            assert left.replicas()[1:] == other.replicas()[1:] == []
            await other.aclose()
            assert left_listener.inflight == other_listener.inflight == {}

    run_on(RunningClock(), run())


def test_pauses_between_links_grow_until_a_link_lasts() -> None:
    """Case E 25: a link that is made and lost at once, again and again, is not made twenty times a second."""
    back_off = BackOff(0.05, 2.0)
    assert [back_off.after(lasted) for lasted in (0.0, 0.01, 0.0, 1.9)] == [0.05, 0.1, 0.2, 0.4]
    assert [back_off.after(0.0) for _ in range(4)] == [0.8, 1.6, 2.0, 2.0]
    assert back_off.after(2.1) == 0.05


def test_attempts_at_a_silent_server_follow_each_other_without_a_pause_and_at_one_that_refuses_with_pauses() -> None:
    """Case I 48: whichever it was, all have a link again within a second after it is back."""
    attempts: list[float] = []

    class Noted(FixedServer):
        async def locate(self) -> ServerAddress:
            attempts.append(asyncio.get_running_loop().time())
            return await super().locate()

    async def run(silent: bool) -> list[float]:
        attempts.clear()
        end = ServerEnd(0)
        end.up = False
        running().paths["path"] = path = SimulatedPath(running(), end)
        if silent:
            path.part()
        store = RedisStore(Noted(ServerAddress("", path="path")), Sync(timeout_s=1.0), Random(1))
        starting = asyncio.get_running_loop().create_task(store.start("me", RecordingListener()))
        await asyncio.sleep(20.0)
        starting.cancel()
        await asyncio.wait([starting])
        await store.aclose()
        return [later - earlier for earlier, later in pairwise(attempts[6:])]

    with asyncio.Runner(loop_factory=simulated_loop) as runner:
        pauses = runner.run(run(silent=True))
        assert pauses == pytest.approx([1.0] * len(pauses))
    with asyncio.Runner(loop_factory=simulated_loop) as runner:
        assert all(0.3 < pause < 0.85 for pause in runner.run(run(silent=False)))


def test_a_user_with_the_rights_that_the_docs_name_is_enough(server: RedisServer) -> None:
    page = (Path(__file__).parents[4] / "docs" / "compatibility.md").read_text()
    (rights,) = re.findall(r"^ACL SETUSER gateway (.*)$", page, re.MULTILINE)
    with client(server) as admin:
        assert admin.execute_command("ACL", "SETUSER", "gateway", *rights.split())

    async def scene() -> None:
        login = f"redis://gateway:PASSWORD@127.0.0.1:{server.port}"
        left, right = RedisStore.open(login, STEADY), RedisStore.open(login, STEADY)
        listener = RecordingListener()
        try:
            await left.start("left", RecordingListener())
            await right.start("right", listener)
            left.announce(A, InflightNumbers(1, 1, 1, 1))
            left.placed(A, [5])
            left.own(b"key", A)
            await eventually(lambda: listener.placed == [(A, (5,))] and "left" in listener.inflight)
            await left.put_policy("pool", PolicyRecord("p2c", {}), if_generation=None)
            assert len(await right.policy_history("pool")) == 1
            assert await right.share_trial("pool", 1, "right", b"{}") == {"right": b"{}"}
            await right.share_limits([])
            assert await right.owner(b"key") == A
        finally:
            await left.aclose()
            await right.aclose()

    try:
        run_on(RunningClock(), scene())
    finally:
        with client(server) as admin:
            assert admin.acl_log(count=1) == []
            admin.acl_deluser("gateway")
