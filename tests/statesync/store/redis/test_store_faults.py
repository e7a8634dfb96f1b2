"""RedisStore on real servers that are killed, paused, slowed down, emptied and demoted, beside replicas that die."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis as redis_py

from loadtests.processes.slow_link import slow_link
from statesync.errors import StoreUnavailable
from statesync.store.protocol import PolicyRecord
from statesync.store.redis.connection import ServerAddress
from statesync.store.redis.ledger import PLACEMENTS
from statesync.store.redis.locate import ServerLocator, locator, slot_of
from statesync.store.redis.session import RENEWALS
from statesync.store.redis.store import RedisStore
from statesync.types import EngineReport, InflightNumbers
from tests.fakes.recording_listener import RecordingListener, eventually
from tests.fakes.redis_replicas import (
    RARE,
    STEADY,
    VICTIM,
    VICTIM_SHARE,
    A,
    B,
    client,
    has_lapsed,
    lose_link,
    open_at,
    page,
    pass_renewal,
    play,
    replica,
    victim,
)
from tests.fakes.redis_server import RedisServer, cluster_nodes, redis_server
from tests.fakes.virtual_time import RunningClock, pass_time, real_moment, run_on
from tests.fakes.waiting import wait_for

ONE = InflightNumbers(1, 1, 1, 1)


@pytest.fixture
def server() -> Iterator[RedisServer]:
    with redis_server() as running:
        yield running


@pytest.fixture(autouse=True)
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes a store reconnect after hundredths of a second instead of seconds."""
    monkeypatch.setattr("statesync.store.redis.store.BACKOFF_S", (0.01, 0.05))


async def off_loop(work: Callable[[], None]) -> None:
    """Runs work in a thread, so that the stores run while a server starts."""
    await asyncio.get_running_loop().run_in_executor(None, work)


def test_a_server_that_comes_back_empty_gets_everything_again(server: RedisServer) -> None:
    async def scene(
        left: RedisStore, left_listener: RecordingListener, right: RedisStore, right_listener: RecordingListener
    ) -> None:
        left_listener.pages = right_listener.pages = [page(A, 1, 2)]
        left.announce(A, InflightNumbers(3, 30, 3, 5))
        right.announce(B, InflightNumbers(1, 10, 1, 1))
        left.report(A, EngineReport(queued=4))
        await left.put_policy("default", PolicyRecord("p2c", {}), if_generation=None)
        await left.put_policy("default", PolicyRecord("random", {"seed": 1}), if_generation=1)
        await eventually(lambda: "default" in right_listener.policies and "right" in left_listener.inflight)
        server.kill()
        await eventually(lambda: not left.health().connected and not right.health().connected)
        assert left.health().error
        with pytest.raises(StoreUnavailable):
            await left.policy("default")
        left.announce(A, InflightNumbers(2, 20, 2, 6))
        await off_loop(server.start)
        await eventually(lambda: left.health().connected and right.health().connected)
        await eventually(lambda: right_listener.inflight.get("left", {}).get(A) == InflightNumbers(2, 20, 2, 6))
        with client(server) as admin:
            await eventually(lambda: all(map(admin.exists, ("{turnout}:checkpoint", "{turnout}:policy:default"))))
            await eventually(
                lambda: admin.hexists("{turnout}:inflight:right", B) and admin.hexists("{turnout}:reports", A)
            )
        async with replica(server, "late") as (late, late_listener):
            assert late_listener.inflight == {
                "left": {A: InflightNumbers(2, 20, 2, 6)},
                "right": {B: InflightNumbers(1, 10, 1, 1)},
            }
            assert late_listener.restored_pages == [page(A, 1, 2)]
            assert late_listener.reports == {A: EngineReport(queued=4)}
            assert late_listener.policies == {"default": PolicyRecord("random", {"seed": 1}, 2)}
            assert [record.generation for record in await late.policy_history("default")] == [2, 1]

    play(server, scene)


def test_a_server_that_is_emptied_during_a_live_link_gets_everything_again(server: RedisServer) -> None:
    async def scene(
        left: RedisStore, left_listener: RecordingListener, right: RedisStore, right_listener: RecordingListener
    ) -> None:
        left.announce(A, InflightNumbers(3, 30, 3, 5))
        await eventually(lambda: "left" in right_listener.inflight)
        with client(server) as admin:
            admin.flushall()
            pass_renewal()
            await eventually(lambda: left.health().lease_losses == right.health().lease_losses == 1)
            await eventually(lambda: bool(admin.hexists("{turnout}:inflight:left", A)))
        async with replica(server, "late") as (_, late_listener):
            assert late_listener.inflight == {"left": {A: InflightNumbers(3, 30, 3, 5)}}
        assert left.health().reconnects == 0

    play(server, scene)


def test_while_the_server_hangs_nothing_is_raised_and_the_view_ages_and_then_recovers(server: RedisServer) -> None:
    hang_s = 2 * STEADY.lease_s

    async def scene(
        left: RedisStore, left_listener: RecordingListener, right: RedisStore, right_listener: RecordingListener
    ) -> None:
        left.announce(A, ONE)
        await eventually(lambda: "left" in right_listener.inflight)
        server.pause()
        try:
            n = 1
            while left.age_s() < hang_s:
                n += 1
                left.announce(A, InflightNumbers(n, n, n, n))
                left.placed(A, [n])
                pass_time(hang_s / 100)
                await real_moment()
            assert right.age_s() > hang_s / 2
            assert left_listener.gone == ["right"]
            assert right_listener.inflight == {}
        finally:
            server.resume()
        await eventually(lambda: right_listener.inflight.get("left", {}).get(A) == InflightNumbers(n, n, n, n))
        await eventually(lambda: len(left.replicas()) == 2 and left.age_s() < hang_s / 4)
        await eventually(lambda: {blocks for _, blocks in right_listener.placed} >= {(at,) for at in range(2, n + 1)})
        assert left.health().placements_dropped == 0

    play(server, scene)


def test_a_slow_server_only_makes_the_view_older(server: RedisServer) -> None:
    async def run() -> None:
        loop = asyncio.get_running_loop()
        with slow_link(server.port) as link:
            link.delay_s = 0.05
            async with replica(server, "near", RARE) as (_, near_listener):
                store = RedisStore.open(f"redis://127.0.0.1:{link.port}", RARE)
                await store.start("far", RecordingListener())
                began, before = loop.time(), store.health().round_trips
                for n in range(250):
                    store.announce(A, InflightNumbers(n, n, n, n))
                    await asyncio.sleep(0.001)
                await eventually(
                    lambda: near_listener.inflight.get("far", {}).get(A) == InflightNumbers(249, 249, 249, 249)
                )
                await eventually(lambda: store.age_s() > 0.9 * link.delay_s)
                took_s = loop.time() - began
                # One flush at a time, each as slow as the link, and the renewals.
                most = took_s / link.delay_s + took_s / (RARE.lease_s / RENEWALS) + 2
                assert store.health().round_trips - before <= most
                assert (store.health().reconnects, store.health().lease_losses) == (0, 0)
                await store.aclose()

    run_on(RunningClock(), run())


def test_only_the_share_of_a_killed_replica_is_removed_and_its_name_is_free_again(server: RedisServer) -> None:
    async def scene(
        left: RedisStore, left_listener: RecordingListener, right: RedisStore, right_listener: RecordingListener
    ) -> None:
        left.announce(A, ONE)
        with victim(server) as process:
            await eventually(lambda: right_listener.inflight.get(VICTIM) == VICTIM_SHARE)
            process.kill()
            async with replica(server, VICTIM) as (_, again_listener):  # waits for the lease to lapse
                assert again_listener.inflight == {"left": {A: ONE}}
                await eventually(lambda: not right_listener.inflight.get(VICTIM, {}).get(A, InflightNumbers()).requests)
            await eventually(lambda: VICTIM not in right_listener.inflight)
        assert right_listener.inflight == {"left": {A: ONE}}
        with client(server) as admin:
            assert not admin.exists("{turnout}:inflight:victim")

    play(server, scene)


def test_a_killed_replica_without_a_successor_lapses_on_every_other(server: RedisServer) -> None:
    async def scene(
        left: RedisStore, left_listener: RecordingListener, right: RedisStore, right_listener: RecordingListener
    ) -> None:
        with victim(server) as process, client(server) as admin:
            await eventually(lambda: VICTIM in right_listener.inflight and VICTIM in left_listener.inflight)
            process.kill()
            await eventually(lambda: has_lapsed(admin, VICTIM))
            pass_renewal()
            await eventually(lambda: VICTIM not in right_listener.inflight and VICTIM not in left_listener.inflight)
            assert set(left_listener.gone) == set(right_listener.gone) == {VICTIM}
            await eventually(lambda: not admin.exists("{turnout}:inflight:victim"))
            assert set(admin.zrange("{turnout}:leases", 0, -1)) == {b"left", b"right"}

    play(server, scene)


def test_a_paused_replica_is_gone_and_comes_back_by_itself(server: RedisServer) -> None:
    async def run() -> None:
        async with replica(server, "left") as (_, listener):
            with victim(server) as process, client(server) as admin:
                await eventually(lambda: VICTIM in listener.inflight)
                os.kill(process.pid, signal.SIGSTOP)
                await eventually(lambda: has_lapsed(admin, VICTIM))
                pass_renewal()
                await eventually(lambda: VICTIM not in listener.inflight)
                assert set(listener.gone) == {VICTIM}
                os.kill(process.pid, signal.SIGCONT)
                await eventually(lambda: listener.inflight.get(VICTIM) == VICTIM_SHARE)

    run_on(RunningClock(), run())


def test_memory_in_an_outage_grows_with_the_pods_and_a_bounded_number_of_placements(server: RedisServer) -> None:
    async def run() -> None:
        async with replica(server, "left", RARE) as (left, _):
            server.pause()
            try:
                await lose_link(left)
                for n in range(PLACEMENTS + 500):
                    left.announce(A, InflightNumbers(n, n, n, n))
                    left.placed(A, [n])
                assert left.health().placements_dropped == 500
            finally:
                server.resume()
            await eventually(lambda: left.health().connected)
            async with replica(server, "late", RARE) as (_, late_listener):
                await eventually(lambda: len(late_listener.placed) == PLACEMENTS)
                assert late_listener.placed[0] == (A, (500,))
                assert late_listener.inflight["left"] == {A: InflightNumbers(*[PLACEMENTS + 499] * 4)}

    run_on(RunningClock(), run())


class MovingLocator:
    """Locates the next of its servers at each call, and then always the last."""

    def __init__(self, *servers: RedisServer) -> None:
        self.asked = 0
        self._where: list[ServerLocator] = [locator(f"redis://127.0.0.1:{s.port}", "turnout") for s in servers]

    async def locate(self) -> ServerAddress:
        where = self._where[min(self.asked, len(self._where) - 1)]
        self.asked += 1
        return await where.locate()


def test_a_store_leaves_a_server_that_became_a_replica_for_the_new_master(server: RedisServer) -> None:
    async def run() -> None:
        with redis_server() as new_master:
            moving, listener = MovingLocator(server, new_master), RecordingListener()
            store = RedisStore(moving, STEADY)
            await store.start("left", listener)
            with client(server) as admin:
                admin.replicaof("127.0.0.1", new_master.port)
            store.announce(A, ONE)
            await eventually(lambda: moving.asked == 2 and store.health().connected)
            with client(new_master) as admin:
                await eventually(lambda: admin.hexists("{turnout}:inflight:left", A))
            async with replica(new_master, "right") as (_, right_listener):
                assert right_listener.inflight == {"left": {A: ONE}}
            await store.aclose()

    run_on(RunningClock(), run())


def test_a_store_works_in_a_cluster_and_follows_a_slot_that_moves() -> None:
    async def run(one: RedisServer, two: RedisServer) -> None:
        url = f"redis+cluster://127.0.0.1:{one.port}"
        left, right, listener, right_listener = (
            RedisStore.open(url, STEADY),
            RedisStore.open(url, STEADY),
            RecordingListener(),
            RecordingListener(),
        )
        await left.start("left", listener)
        await right.start("right", right_listener)
        left.announce(A, ONE)
        left.placed(A, [1])
        await left.put_policy("default", PolicyRecord("p2c", {}), if_generation=0)
        await eventually(lambda: bool(right_listener.inflight and right_listener.placed and right_listener.policies))
        with client(one) as admin, client(two) as other:
            await eventually(lambda: bool(admin.exists("{turnout}:checkpoint")))
            taker = other.execute_command("CLUSTER MYID")
            slot = slot_of(b"{turnout}")
            other.execute_command("CLUSTER SETSLOT", slot, "NODE", taker)
            move(admin, slot, taker)
            pass_renewal()
            await eventually(lambda: bool(other.hexists("{turnout}:inflight:left", A)))
            await eventually(lambda: bool(other.exists("{turnout}:policy:default")))
        await eventually(lambda: left.health().connected and right.health().connected)
        await left.aclose()
        await eventually(lambda: right_listener.gone[-1:] == ["left"])
        await right.aclose()

    with cluster_nodes(2) as (one, two):
        with client(one) as admin, client(two) as other:
            admin.execute_command("CLUSTER ADDSLOTSRANGE", 0, 16383)
            admin.execute_command("CLUSTER MEET", "127.0.0.1", two.port)
            for node in (admin, other):
                wait_for("the cluster", lambda node=node: cluster_is_whole(node))  # type: ignore[misc]
        run_on(RunningClock(), run(one, two))


def cluster_is_whole(node: Any) -> bool:
    known = node.execute_command("CLUSTER INFO")
    wanted = {"cluster_known_nodes": "2", "cluster_slots_ok": "16384", "cluster_state": "ok"}
    return {name: known[name] for name in wanted} == wanted


def move(admin: Any, slot: int, taker: bytes) -> None:
    """Moves the slot to another node. The stores keep writing to it, and a node keeps a slot that holds keys."""
    while True:
        try:
            admin.execute_command("CLUSTER SETSLOT", slot, "NODE", taker)
        except redis_py.ResponseError:
            admin.flushall()
        else:
            return


def test_a_cancelled_start_continues_in_the_background(server: RedisServer) -> None:
    async def run() -> None:
        server.kill()
        store, listener = open_at(server), RecordingListener()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(store.start("left", listener), 0.05)
        assert not store.health().warm
        assert store.elected(A)
        store.announce(A, ONE)
        await off_loop(server.start)
        await eventually(lambda: store.health().warm)
        with client(server) as admin:
            await eventually(lambda: admin.hexists("{turnout}:inflight:left", A))
        async with replica(server, "right") as (_, right_listener):
            assert right_listener.inflight == {"left": {A: ONE}}
        await store.aclose()

    run_on(RunningClock(), run())
