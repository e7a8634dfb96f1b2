"""A replica built from settings: it starts, serves, drains and lets go of everything. Real sockets, real event loop."""

from __future__ import annotations

import asyncio

import pytest

from router.lifecycle import Phase
from router.replica.replica import Replica
from router.settings import Drain, PolicySpec, Pool, Timeouts
from schedulers.errors import SchedulerError
from schedulers.types import PodId
from statesync.store.protocol import PolicyRecord
from statesync.types import InflightNumbers
from tests.fakes.local_replica import Engine, ask, engine, settings
from tests.fakes.waiting import until


def test_a_replica_serves_from_start_to_drain() -> None:
    async def run() -> None:
        server, url = await engine()
        replica = Replica(settings(url))
        phases: list[Phase] = []
        replica.lifecycle.listen(lambda step: phases.append(step.after))
        await replica.start()
        assert b"200 OK" in await ask(replica.port)
        assert b'"ready"' in await ask(replica.port, b"GET /readyz HTTP/1.1\r\nhost: g\r\n\r\n")
        port = replica.port
        replica.stop()
        await replica.drain()
        assert phases == [Phase.WARMING, Phase.READY, Phase.SETTLING, Phase.DRAINING, Phase.CLOSED]
        assert not replica.lifecycle.cold
        with pytest.raises(ConnectionRefusedError):
            await ask(port)
        assert not replica.listener.edges
        assert replica.upstream.idle == {}
        server.close()

    asyncio.run(run())


def test_a_drain_waits_for_what_is_in_flight() -> None:
    async def run() -> None:
        server, url = await engine()
        Engine.held = asyncio.Event()
        replica = Replica(settings(url))
        await replica.start()
        asking = asyncio.get_running_loop().create_task(ask(replica.port))
        await until(lambda: len(replica.gateway.deps.admission.active) == 1)
        replica.stop()
        draining = asyncio.get_running_loop().create_task(replica.drain())
        await until(lambda: replica.lifecycle.phase is Phase.DRAINING)
        Engine.held.set()
        assert b"200 OK" in await asking
        await draining
        server.close()

    try:
        asyncio.run(run())
    finally:
        Engine.held = None


def test_a_second_stop_ends_what_is_in_flight_with_an_answer() -> None:
    async def run() -> None:
        server, url = await engine()
        Engine.held = asyncio.Event()
        replica = Replica(settings(url, drain=Drain(settle_s=600, timeout_s=600)))
        await replica.start()
        asking = asyncio.get_running_loop().create_task(ask(replica.port))
        await until(lambda: len(replica.gateway.deps.admission.active) == 1)
        replica.stop()
        replica.stop()
        await replica.drain()
        assert b'"gateway_draining"' in await asking
        Engine.held.set()
        server.close()

    try:
        asyncio.run(run())
    finally:
        Engine.held = None


def test_what_cannot_be_known_in_time_leaves_the_replica_cold_and_serving() -> None:
    async def run() -> None:
        waits = Pool(name="main", pods=["http://127.0.0.1:1"])  # nobody there to tell its models
        replica = Replica(settings(pools=[waits], warmup_timeout_s=0.05))
        await replica.start()
        assert (replica.lifecycle.cold, replica.lifecycle.phase) == (True, Phase.READY)
        assert b'"pod_unreachable"' in await ask(replica.port)
        await replica.drain()

    asyncio.run(run())


def test_a_port_that_is_taken_is_said() -> None:
    async def run() -> None:
        server, url = await engine()
        replica = Replica(settings(url, listen=url.removeprefix("http://")))
        with pytest.raises(OSError, match="in use"):
            await replica.start()
        await replica.close()
        server.close()

    asyncio.run(run())


def test_a_policy_that_does_not_exist_is_said_before_anything_opens() -> None:
    wrong = Pool(name="main", policy=PolicySpec(name="least_conn"))
    with pytest.raises(SchedulerError, match="least_load"):
        Replica(settings(pools=[wrong]))


def test_it_hears_the_other_replicas() -> None:
    async def run() -> None:
        server, url = await engine()
        replica = Replica(settings(url))
        await replica.start()
        pod = PodId(url.removeprefix("http://"))
        replica.state_listener.replica_inflight("r2", {pod: InflightNumbers(3, 300, 30)})
        assert replica.view.status(pod).load.inflight == 3
        replica.state_listener.replica_gone("r2")
        assert replica.view.status(pod).load.inflight == 0
        chain = replica.prefix.chain("m", [b"x" * 4096])
        replica.state_listener.placed_elsewhere(pod, chain)
        assert replica.prefix.match(chain) == {pod: 16}
        replica.state_listener.policy_changed("main", PolicyRecord("random", {}, 9))
        assert replica.policies.current("main").name == "random"
        await replica.drain()
        server.close()

    asyncio.run(run())


def test_the_shortest_limit_sets_how_often_deadlines_are_looked_at() -> None:
    quick = Pool(name="main", pods=["http://127.0.0.1:1"], timeouts=Timeouts(first_byte_s=0.1))
    assert Replica(settings(pools=[quick])).deadlines.resolution_s == pytest.approx(0.025)
    assert Replica(settings("http://127.0.0.1:1")).deadlines.resolution_s == 0.25


def test_a_replica_is_named_by_its_settings_or_names_itself() -> None:
    assert Replica(settings("http://127.0.0.1:1")).name == "r1"
    names = {Replica(settings("http://127.0.0.1:1", replica="")).name for _ in range(3)}
    assert len(names) == 3
