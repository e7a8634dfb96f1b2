"""Whole replicas with a real Redis: cold without it, warm once it answers, and removed from it after a drain."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest

from loadtests.processes.redis_server import RedisServer
from router.replica.build import build
from router.replica.replica import Replica
from router.settings import Settings, Sync
from schedulers.types import PodId
from statesync.errors import StateError
from statesync.types import EngineReport
from tests.fakes.local_replica import Engine, ask, engine, settings
from tests.fakes.waiting import until

pytestmark = pytest.mark.needs("redis-server")

PATIENT = Sync(timeout_s=60.0)
"""Limits that no busy machine exceeds, so that no replica's lease expires."""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    running = RedisServer(tmp_path)
    yield running
    running.stop()


def over(server: RedisServer, url: str, name: str, **fields: object) -> Settings:
    return settings(url, replica=name, state=server.url, **{"sync": PATIENT, **fields})


async def shared(replica: Replica, pod: PodId) -> None:
    """Wait until all changes of the replica are in Redis, and a report of this pod with 7 queued requests."""
    ends_at = replica.parts.state.store.health().round_trips + 2  # one message may be in progress
    numbers = count()

    def is_shared() -> bool:
        replica.parts.state.store.report(
            pod, EngineReport(queued=7, running=next(numbers))
        )  # the replica always has further changes
        return replica.parts.state.store.health().round_trips >= ends_at

    await until(is_shared)


def test_a_replica_whose_redis_hangs_at_start_serves_cold_and_joins_when_redis_is_back(
    server: RedisServer,
) -> None:
    async def run() -> None:
        pods, url = await engine()
        pod = PodId(url.removeprefix("http://"))
        sync = Sync(timeout_s=0.3)  # so that it detects the failure soon
        other = Replica(build(over(server, url, "other", sync=sync)))
        await other.start()
        server.pause()
        replica = Replica(build(over(server, url, "late", sync=sync, warmup_timeout_s=0.2)))
        await replica.start()
        assert (replica.parts.core.lifecycle.cold, replica.parts.core.lifecycle.ready) == (True, True)
        assert replica.parts.state.store.elected(pod), "no other replica can be reached"
        assert b"200 OK" in await ask(replica.port)
        server.resume()
        await until(lambda: not replica.parts.core.lifecycle.cold)
        await until(lambda: replica.parts.state.store.health().connected)
        await until(lambda: {each.id for each in other.parts.state.store.replicas()} == {"other", "late"})
        await until(lambda: replica.parts.state.store.elected(pod) != other.parts.state.store.elected(pod))
        await replica.close()
        await other.close()
        pods.close()

    asyncio.run(run())


def test_the_name_of_a_live_replica_is_refused(server: RedisServer) -> None:
    async def run() -> None:
        pods, url = await engine()
        first, second = (Replica(build(over(server, url, "same", warmup_timeout_s=60))) for _ in range(2))
        await first.start()
        with pytest.raises(StateError, match="'same' is live"):
            await second.start()
        await second.close()
        await first.close()
        pods.close()

    asyncio.run(run())


def test_a_new_replica_has_the_true_load_and_an_old_one_is_removed_after_its_drain(server: RedisServer) -> None:
    async def run() -> None:
        pods, url = await engine()
        pod = PodId(url.removeprefix("http://"))
        Engine.held = asyncio.Event()
        old = Replica(build(over(server, url, "old")))
        await old.start()
        asking = asyncio.get_running_loop().create_task(ask(old.port))
        await until(lambda: len(old.parts.network.admission.active) == 1)
        chain = old.parts.state.prefix.chain("m", [b"x" * 4096])
        old.parts.state.store.placed(pod, chain)
        await shared(old, pod)
        new = Replica(build(over(server, url, "new")))
        await new.start()
        load = new.parts.state.view.snapshot("main").candidates[0].load
        assert (load.inflight, load.queued) == (1, 7)
        assert new.parts.state.prefix.match(chain) == {pod: 16}
        old.stop()
        draining = asyncio.get_running_loop().create_task(old.drain())
        Engine.held.set()
        assert b"200 OK" in await asking
        await draining
        await until(lambda: [each.id for each in new.parts.state.store.replicas()] == ["new"])
        assert new.parts.state.view.status(pod).load.inflight == 0
        assert new.parts.state.store.elected(pod)
        await new.close()
        pods.close()

    try:
        asyncio.run(run())
    finally:
        Engine.held = None
