"""RedisStore on real servers that are killed, paused, slowed down, emptied and demoted."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import time
from array import array
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from typing import Any

import pytest
import redis as redis_py

from schedulers.types import PodId
from statesync.errors import StoreUnavailable
from statesync.keys import LOG_TTL_S, REPORT_TTL_S
from statesync.ledger import PLACEMENTS
from statesync.redis import RedisStore
from statesync.redis_address import Whereabouts, slot_of, whereabouts
from statesync.resp import Address
from statesync.store import PolicyRecord, SyncConfig
from statesync.types import EngineReport, InflightNumbers, PrefixPage
from tests.fakes.recording_listener import Ears, heard
from tests.fakes.redis_server import RedisServer, cluster_nodes, poll, redis_server

A, B = PodId("10.0.0.1:8000"), PodId("10.0.0.2:8000")
QUICK = SyncConfig(lease_s=1.0, timeout_s=0.3, checkpoint_s=0.2)


@pytest.fixture
def server() -> Iterator[RedisServer]:
    with redis_server() as running:
        yield running


@contextlib.contextmanager
def client(server: RedisServer) -> Iterator[Any]:
    with redis_py.Redis(port=server.port) as admin:
        yield admin


def at(server: RedisServer, config: SyncConfig = QUICK) -> RedisStore:
    return RedisStore.open(f"redis://127.0.0.1:{server.port}", config)


@contextlib.asynccontextmanager
async def replica(server: RedisServer, name: str, config: SyncConfig = QUICK) -> AsyncIterator[tuple[RedisStore, Ears]]:
    store, ears = at(server, config), Ears()
    await store.start(name, ears)
    try:
        yield store, ears
    finally:
        await store.aclose()


Scene = Callable[[RedisStore, Ears, RedisStore, Ears], Coroutine[None, None, None]]


def play(server: RedisServer, scene: Scene, config: SyncConfig = QUICK) -> None:
    async def run() -> None:
        async with replica(server, "left", config) as left, replica(server, "right", config) as right:
            await scene(*left, *right)

    asyncio.run(run())


async def off_loop(work: Callable[[], None]) -> None:
    """Starting a server takes a while: let the stores run meanwhile."""
    await asyncio.get_running_loop().run_in_executor(None, work)


def page(pod: PodId, *hashes: int) -> PrefixPage:
    return PrefixPage(pod, array("Q", hashes).tobytes(), bytes(len(hashes)))


def test_a_server_that_comes_back_empty_is_told_all_again(server: RedisServer) -> None:
    async def scene(left: RedisStore, left_ears: Ears, right: RedisStore, right_ears: Ears) -> None:
        left_ears.pages = right_ears.pages = [page(A, 1, 2)]
        left.announce(A, InflightNumbers(3, 30, 3, 5))
        right.announce(B, InflightNumbers(1, 10, 1, 1))
        left.report(A, EngineReport(queued=4))
        await left.put_policy("default", "p2c", {}, if_generation=None)
        await left.put_policy("default", "random", {"seed": 1}, if_generation=1)
        await heard(lambda: "default" in right_ears.policies and "right" in left_ears.inflight)
        server.kill()
        await heard(lambda: not left.health().connected and not right.health().connected)
        assert left.health().error
        with pytest.raises(StoreUnavailable):
            await left.policy("default")
        left.announce(A, InflightNumbers(2, 20, 2, 6))
        await off_loop(server.start)
        await heard(lambda: left.health().connected and right.health().connected)
        await heard(lambda: right_ears.inflight.get("left", {}).get(A) == InflightNumbers(2, 20, 2, 6))
        with client(server) as admin:
            await heard(lambda: bool(admin.exists("{turnout}:checkpoint")))
        async with replica(server, "late") as (late, late_ears):
            assert late_ears.inflight == {
                "left": {A: InflightNumbers(2, 20, 2, 6)},
                "right": {B: InflightNumbers(1, 10, 1, 1)},
            }
            assert late_ears.restored_pages == [page(A, 1, 2)]
            assert late_ears.reports == {A: EngineReport(queued=4)}
            assert late_ears.policies == {"default": PolicyRecord("random", {"seed": 1}, 2)}
            assert [record.generation for record in await late.policy_history("default")] == [2, 1]

    play(server, scene)


def test_a_server_emptied_under_a_live_link_is_told_all_again(server: RedisServer) -> None:
    async def scene(left: RedisStore, left_ears: Ears, right: RedisStore, right_ears: Ears) -> None:
        left.announce(A, InflightNumbers(3, 30, 3, 5))
        await heard(lambda: "left" in right_ears.inflight)
        with client(server) as admin:
            admin.flushall()
            await heard(lambda: left.health().lease_losses == right.health().lease_losses == 1)
            await heard(lambda: bool(admin.hexists("{turnout}:inflight:left", A)))
        async with replica(server, "late") as (_, late_ears):
            assert late_ears.inflight == {"left": {A: InflightNumbers(3, 30, 3, 5)}}
        assert left.health().reconnects == 0

    play(server, scene)


def test_while_the_server_hangs_nothing_is_raised_and_the_view_ages_then_all_heals(server: RedisServer) -> None:
    async def scene(left: RedisStore, left_ears: Ears, right: RedisStore, right_ears: Ears) -> None:
        left.announce(A, InflightNumbers(1, 1, 1, 1))
        await heard(lambda: "left" in right_ears.inflight)
        server.pause()
        try:
            n = 1
            while left.age_s() < 2.0:
                n += 1
                left.announce(A, InflightNumbers(n, n, n, n))
                left.placed(A, [n])
                await asyncio.sleep(0.01)
            assert right.age_s() > 1.0
            assert left_ears.gone == ["right"]
            assert right_ears.inflight == {}
        finally:
            server.resume()
        await heard(lambda: right_ears.inflight.get("left", {}).get(A) == InflightNumbers(n, n, n, n))
        await heard(lambda: len(left.replicas()) == 2 and left.age_s() < 0.5)
        await heard(lambda: {blocks for _, blocks in right_ears.placed} >= {(at,) for at in range(2, n + 1)})
        assert left.health().placements_dropped == 0

    play(server, scene)


def test_a_slow_server_makes_the_view_older_and_nothing_else(server: RedisServer) -> None:
    async def run() -> None:
        config = QUICK._replace(timeout_s=2.0)
        async with slow_proxy(server.port, 0.05) as port, replica(server, "near") as (_, near_ears):
            store = RedisStore.open(f"redis://127.0.0.1:{port}", config)
            await store.start("far", Ears())
            before = store.health().round_trips
            for n in range(500):
                store.announce(A, InflightNumbers(n, n, n, n))
                await asyncio.sleep(0.001)
            await heard(lambda: near_ears.inflight.get("far", {}).get(A) == InflightNumbers(499, 499, 499, 499))
            await heard(lambda: store.age_s() > 0.09)
            assert store.health().round_trips - before < 100
            assert (store.health().reconnects, store.health().lease_losses) == (0, 0)
            await store.aclose()

    asyncio.run(run())


@contextlib.asynccontextmanager
async def slow_proxy(port: int, delay_s: float) -> AsyncIterator[int]:
    """Passes on each way what comes, so much later, in order. Gives its port."""
    serving: set[asyncio.Task[None] | None] = set()

    async def passed(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        loop = asyncio.get_running_loop()
        while data := await reader.read(65536):
            loop.call_later(delay_s, writer.write, data)
        loop.call_later(delay_s, writer.close)
        with contextlib.suppress(OSError):
            await writer.wait_closed()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        serving.add(asyncio.current_task())
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", port)
        await asyncio.gather(passed(reader, far_writer), passed(far_reader, writer), return_exceptions=True)

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as proxy:
        yield proxy.sockets[0].getsockname()[1]
        await asyncio.wait([task for task in serving if task is not None])


def test_a_lost_lease_is_taken_anew_and_the_share_with_it(server: RedisServer) -> None:
    async def scene(left: RedisStore, left_ears: Ears, right: RedisStore, right_ears: Ears) -> None:
        left.announce(A, InflightNumbers(2, 2, 2, 2))
        await heard(lambda: "left" in right_ears.inflight)
        with client(server) as admin:
            admin.hdel("{turnout}:tokens", "left")
            admin.delete("{turnout}:inflight:left")
        left.announce(B, InflightNumbers(1, 1, 1, 1))
        left.placed(B, [5])
        await heard(lambda: left.health().lease_losses == 1 and B in right_ears.inflight["left"])
        assert right_ears.inflight["left"] == {A: InflightNumbers(2, 2, 2, 2), B: InflightNumbers(1, 1, 1, 1)}
        await heard(lambda: right_ears.placed == [(B, (5,))])
        assert right_ears.gone == []
        assert right.health().lease_losses == 0

    play(server, scene)


KILLED = """
import asyncio, sys
from tests.fakes.recording_listener import Ears
from schedulers.types import PodId
from statesync.redis import RedisStore
from statesync.store import SyncConfig
from statesync.types import InflightNumbers

async def main():
    store = RedisStore.open(sys.argv[1], SyncConfig(lease_s=1.0))
    await store.start("victim", Ears())
    store.announce(PodId("10.0.0.1:8000"), InflightNumbers(7, 70, 7, 7))
    await asyncio.sleep(3600)

asyncio.run(main())
"""


@contextlib.contextmanager
def victim(server: RedisServer) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen([sys.executable, "-c", KILLED, f"redis://127.0.0.1:{server.port}"])
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process.pid, signal.SIGKILL)
        process.wait()


def test_exactly_the_share_of_a_killed_replica_goes_and_its_name_is_free_again(server: RedisServer) -> None:
    async def scene(left: RedisStore, left_ears: Ears, right: RedisStore, right_ears: Ears) -> None:
        left.announce(A, InflightNumbers(1, 1, 1, 1))
        with victim(server) as process:
            await heard(lambda: right_ears.inflight.get("victim") == {A: InflightNumbers(7, 70, 7, 7)})
            process.kill()
            async with replica(server, "victim") as (_, again_ears):  # waits for the lease to lapse
                assert again_ears.inflight == {"left": {A: InflightNumbers(1, 1, 1, 1)}}
                await heard(lambda: not right_ears.inflight.get("victim", {A: InflightNumbers()}).get(A, A)[0])
            await heard(lambda: "victim" not in right_ears.inflight)
        assert right_ears.inflight == {"left": {A: InflightNumbers(1, 1, 1, 1)}}
        with client(server) as admin:
            assert not admin.exists("{turnout}:inflight:victim")

    play(server, scene)


def test_a_killed_replica_that_nobody_replaces_lapses_on_every_other(server: RedisServer) -> None:
    async def scene(left: RedisStore, left_ears: Ears, right: RedisStore, right_ears: Ears) -> None:
        with victim(server) as process:
            await heard(lambda: "victim" in right_ears.inflight and "victim" in left_ears.inflight)
            process.kill()
            await heard(lambda: left_ears.gone == right_ears.gone == ["victim"])
            with client(server) as admin:
                await heard(lambda: not admin.exists("{turnout}:inflight:victim"))
                assert set(admin.zrange("{turnout}:leases", 0, -1)) == {b"left", b"right"}

    play(server, scene)


def test_a_paused_replica_is_gone_and_comes_back_by_itself(server: RedisServer) -> None:
    async def run() -> None:
        async with replica(server, "left") as (_, ears):
            with victim(server) as process:
                await heard(lambda: "victim" in ears.inflight)
                os.kill(process.pid, signal.SIGSTOP)
                await heard(lambda: ears.gone == ["victim"])
                os.kill(process.pid, signal.SIGCONT)
                await heard(lambda: ears.inflight.get("victim") == {A: InflightNumbers(7, 70, 7, 7)})

    asyncio.run(run())


def test_an_outage_costs_memory_by_pods_and_a_bounded_number_of_placements(server: RedisServer) -> None:
    async def run() -> None:
        lasting = QUICK._replace(checkpoint_s=60.0)
        async with replica(server, "left", lasting) as (left, _):
            server.pause()
            await heard(lambda: not left.health().connected)
            for n in range(PLACEMENTS + 500):
                left.announce(A, InflightNumbers(n, n, n, n))
                left.placed(A, [n])
            assert left.health().placements_dropped == 500
            server.resume()
            await heard(lambda: left.health().connected)
            async with replica(server, "late", lasting) as (_, late_ears):
                await heard(lambda: len(late_ears.placed) == PLACEMENTS)
                assert late_ears.placed[0] == (A, (500,))
                assert late_ears.inflight["left"] == {A: InflightNumbers(*[PLACEMENTS + 499] * 4)}

    asyncio.run(run())


def test_scripts_that_the_server_forgot_are_sent_again(server: RedisServer) -> None:
    async def scene(left: RedisStore, left_ears: Ears, right: RedisStore, right_ears: Ears) -> None:
        with client(server) as admin:
            admin.script_flush()
            left.announce(A, InflightNumbers(1, 1, 1, 1))
            left.placed(A, [1])
            await heard(lambda: bool(right_ears.placed))
            admin.script_flush()
            assert (await left.put_policy("default", "p2c", {}, if_generation=0)).generation == 1
        assert right_ears.placed == [(A, (1,))]
        assert left.health().reconnects == left.health().lease_losses == 0

    play(server, scene)


class Elsewhere:
    """Says where a URL leads until it is told of another."""

    def __init__(self, *servers: RedisServer) -> None:
        self.asked = 0
        self._where: list[Whereabouts] = [whereabouts(f"redis://127.0.0.1:{s.port}", "turnout") for s in servers]

    async def locate(self) -> Address:
        where = self._where[min(self.asked, len(self._where) - 1)]
        self.asked += 1
        return await where.locate()


def test_a_server_that_became_a_replica_is_left_for_the_new_master(server: RedisServer) -> None:
    async def run() -> None:
        with redis_server() as new_master:
            where, ears = Elsewhere(server, new_master), Ears()
            store = RedisStore(where, QUICK)
            await store.start("left", ears)
            with client(server) as admin:
                admin.replicaof("127.0.0.1", new_master.port)
            store.announce(A, InflightNumbers(1, 1, 1, 1))
            await heard(lambda: where.asked == 2 and store.health().connected)
            async with replica(new_master, "right") as (_, right_ears):
                assert right_ears.inflight == {"left": {A: InflightNumbers(1, 1, 1, 1)}}
            await store.aclose()

    asyncio.run(run())


@pytest.mark.slow
def test_in_a_cluster_all_works_and_a_slot_that_moves_is_followed() -> None:
    async def run(one: RedisServer, two: RedisServer) -> None:
        url = f"redis+cluster://127.0.0.1:{one.port}"
        left, right, ears, right_ears = RedisStore.open(url, QUICK), RedisStore.open(url, QUICK), Ears(), Ears()
        await left.start("left", ears)
        await right.start("right", right_ears)
        left.announce(A, InflightNumbers(1, 1, 1, 1))
        left.placed(A, [1])
        await left.put_policy("default", "p2c", {}, if_generation=0)
        await heard(lambda: bool(right_ears.inflight and right_ears.placed and right_ears.policies))
        with client(one) as admin, client(two) as other:
            await heard(lambda: bool(admin.exists("{turnout}:checkpoint")))
            taker = other.execute_command("CLUSTER MYID")
            slot = slot_of(b"{turnout}")
            other.execute_command("CLUSTER SETSLOT", slot, "NODE", taker)
            await moved(admin, slot, taker)
            await heard(lambda: bool(other.hexists("{turnout}:inflight:left", A)))
            await heard(lambda: bool(other.exists("{turnout}:policy:default")))
        await heard(lambda: left.health().connected and right.health().connected)
        await left.aclose()
        await heard(lambda: right_ears.gone[-1:] == ["left"])
        await right.aclose()

    with cluster_nodes(2) as (one, two):
        with client(one) as admin, client(two) as other:
            admin.execute_command("CLUSTER ADDSLOTSRANGE", 0, 16383)
            admin.execute_command("CLUSTER MEET", "127.0.0.1", two.port)
            for node in (admin, other):
                poll(lambda node=node: cluster_is_whole(node), "the cluster")  # type: ignore[misc]
        asyncio.run(run(one, two))


def cluster_is_whole(node: Any) -> bool:
    known = node.execute_command("CLUSTER INFO")
    return (known["cluster_known_nodes"], known["cluster_slots_ok"]) == ("2", "16384")


async def moved(admin: Any, slot: int, taker: bytes) -> None:
    """Give the slot away; the stores write into it all the while, and a node keeps a slot that it has keys of."""
    while True:
        try:
            admin.execute_command("CLUSTER SETSLOT", slot, "NODE", taker)
        except redis_py.ResponseError:
            admin.flushall()
        else:
            return


def test_a_start_that_is_given_up_goes_on_in_the_background(server: RedisServer) -> None:
    async def run() -> None:
        server.kill()
        store, ears = at(server), Ears()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(store.start("left", ears), 0.2)
        assert not store.health().warm
        assert store.elected(A)
        store.announce(A, InflightNumbers(1, 1, 1, 1))
        await off_loop(server.start)
        await heard(lambda: store.health().warm)
        async with replica(server, "right") as (_, right_ears):
            assert right_ears.inflight == {"left": {A: InflightNumbers(1, 1, 1, 1)}}
        await store.aclose()

    asyncio.run(run())


def test_round_trips_are_bounded_whatever_is_announced(server: RedisServer) -> None:
    async def scene(left: RedisStore, left_ears: Ears, right: RedisStore, right_ears: Ears) -> None:
        began, before = time.monotonic(), left.health().round_trips
        for n in range(400):
            for k in range(13):
                left.announce(PodId(f"10.0.0.{k}:8000"), InflightNumbers(n, n, n, n))
            left.placed(A, [n])
            await asyncio.sleep(0.0025)
        took_s = time.monotonic() - began
        assert left.health().round_trips - before <= 600 * took_s
        await heard(lambda: len(right_ears.placed) == 400 and right_ears.inflight["left"][A].requests == 399)

    play(server, scene)


def test_a_share_of_thousands_of_pods_is_one_message_and_one_hash(server: RedisServer) -> None:
    async def scene(left: RedisStore, left_ears: Ears, right: RedisStore, right_ears: Ears) -> None:
        share = {PodId(f"pod-{n}"): InflightNumbers(n, n, n, n) for n in range(1, 5001)}
        for pod, numbers in share.items():
            left.announce(pod, numbers)
            left.report(pod, EngineReport(queued=numbers.requests))
        await heard(lambda: right_ears.inflight.get("left") == share)
        async with replica(server, "late") as (_, late_ears):
            assert late_ears.inflight == {"left": share}
            assert len(late_ears.reports) == 5000

    play(server, scene, QUICK._replace(timeout_s=2.0))


def test_every_key_has_the_prefix_and_the_ttl_that_is_written_down(server: RedisServer) -> None:
    async def scene(left: RedisStore, left_ears: Ears, right: RedisStore, right_ears: Ears) -> None:
        left_ears.pages = right_ears.pages = [page(A, 1, 2)]
        left.report(A, EngineReport(queued=1))
        await left.put_policy("default", "p2c", {}, if_generation=None)
        left.announce(A, InflightNumbers(1, 1, 1, 1))
        left.placed(A, [1])
        lease_ms, day_ms = 4_000, LOG_TTL_S * 1000
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
            await heard(lambda: bool(admin.exists("{turnout}:checkpoint")))
            name = admin.hget("{turnout}:checkpoint", "name").decode()
            most_ms[f"pages:{name}"] = day_ms
            ttl_ms = {key.decode().removeprefix("{turnout}:"): admin.pttl(key) for key in admin.keys("*")}
        assert ttl_ms.keys() - {"lock"} == most_ms.keys()
        for key, most in most_ms.items():
            assert (ttl_ms[key] == -1) if most == -1 else (most * 0.5 < ttl_ms[key] <= most), key

    play(server, scene)


def test_a_checkpoint_shortens_the_log_and_starts_who_comes_later(server: RedisServer) -> None:
    async def scene(left: RedisStore, left_ears: Ears, right: RedisStore, right_ears: Ears) -> None:
        left_ears.pages = right_ears.pages = [page(A, 1, 2), page(B, 3)]
        for n in range(5):
            left.placed(A, [n])
            await heard(lambda n=n: len(right_ears.placed) == n + 1)  # type: ignore[misc]
        with client(server) as admin:
            await heard(lambda: admin.xlen("{turnout}:log") == 1)
        left_ears.pages = right_ears.pages = []
        async with replica(server, "late", QUICK._replace(checkpoint_s=60.0)) as (_, late_ears):
            assert late_ears.restored_pages == [page(A, 1, 2), page(B, 3)]
            assert late_ears.placed == []
            left.placed(B, [9])
            await heard(lambda: late_ears.placed == [(B, (9,))])

    play(server, scene)


def test_two_databases_of_one_server_do_not_hear_each_other(server: RedisServer) -> None:
    async def run() -> None:
        async with replica(server, "left") as (left, left_ears):
            other, other_ears = RedisStore.open(f"redis://127.0.0.1:{server.port}/1", QUICK), Ears()
            await other.start("left", other_ears)
            other.announce(B, InflightNumbers(1, 1, 1, 1))
            left.announce(A, InflightNumbers(1, 1, 1, 1))
            await heard(lambda: left.age_s() > 0.0 and other.age_s() > 0.0)
            assert left.replicas()[1:] == other.replicas()[1:] == []
            await other.aclose()
            assert left_ears.inflight == other_ears.inflight == {}

    asyncio.run(run())
