"""A replica built from settings: it starts, serves, drains and releases everything. Real sockets, real event loop."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from router.lifecycle import Phase
from router.replica.build import build
from router.replica.replica import Replica
from router.settings import Control, Drain, Pool
from schedulers.types import PodId
from statesync.store.protocol import PolicyRecord
from statesync.types import InflightNumbers
from tests.fakes.local_replica import Engine, ask, engine, settings
from tests.fakes.waiting import until


def test_a_replica_serves_from_start_to_drain() -> None:
    async def run() -> None:
        server, url = await engine()
        replica = Replica(build(settings(url)))
        phases: list[Phase] = []
        replica.parts.core.lifecycle.listen(lambda step: phases.append(step.after))
        await replica.start()
        assert b"200 OK" in await ask(replica.port)
        assert b'"ready"' in await ask(replica.port, b"GET /readyz HTTP/1.1\r\nhost: g\r\n\r\n")
        port = replica.port
        replica.stop()
        await replica.drain()
        assert phases == [Phase.WARMING, Phase.READY, Phase.SETTLING, Phase.DRAINING, Phase.CLOSED]
        assert not replica.parts.core.lifecycle.cold
        with pytest.raises(ConnectionRefusedError):
            await ask(port)
        assert not replica.parts.dataplane.listener.edges
        assert replica.parts.network.upstream.idle == {}
        server.close()

    asyncio.run(run())


def test_a_drain_waits_for_requests_in_flight() -> None:
    async def run() -> None:
        server, url = await engine()
        Engine.held = asyncio.Event()
        replica = Replica(build(settings(url)))
        await replica.start()
        asking = asyncio.get_running_loop().create_task(ask(replica.port))
        await until(lambda: len(replica.parts.network.admission.active) == 1)
        replica.stop()
        draining = asyncio.get_running_loop().create_task(replica.drain())
        await until(lambda: replica.parts.core.lifecycle.phase is Phase.DRAINING)
        Engine.held.set()
        assert b"200 OK" in await asking
        await draining
        server.close()

    try:
        asyncio.run(run())
    finally:
        Engine.held = None


def test_a_second_stop_ends_requests_in_flight_with_an_answer() -> None:
    async def run() -> None:
        server, url = await engine()
        Engine.held = asyncio.Event()
        replica = Replica(build(settings(url, drain=Drain(settle_s=600, timeout_s=600))))
        await replica.start()
        asking = asyncio.get_running_loop().create_task(ask(replica.port))
        await until(lambda: len(replica.parts.network.admission.active) == 1)
        replica.stop(hurry=True)
        await replica.drain()
        assert b'"gateway_draining"' in await asking
        Engine.held.set()
        server.close()

    try:
        asyncio.run(run())
    finally:
        Engine.held = None


def test_models_that_are_not_known_in_time_leave_the_replica_cold_and_serving() -> None:
    async def run() -> None:
        waits = Pool(name="main", pods=["http://127.0.0.1:1"])  # no engine listens there to list its models
        replica = Replica(build(settings(pools=[waits], warmup_timeout_s=0.05)))
        await replica.start()
        assert (replica.parts.core.lifecycle.cold, replica.parts.core.lifecycle.phase) == (True, Phase.READY)
        assert b'"pod_unreachable"' in await ask(replica.port)
        await replica.drain()

    asyncio.run(run())


def test_a_port_in_use_is_reported() -> None:
    async def run() -> None:
        server, url = await engine()
        replica = Replica(build(settings(url, listen=url.removeprefix("http://"))))
        with pytest.raises(OSError, match="in use"):
            await replica.start()
        await replica.close()
        server.close()

    asyncio.run(run())


def test_it_receives_the_state_of_the_other_replicas() -> None:
    async def run() -> None:
        server, url = await engine()
        replica = Replica(build(settings(url)))
        await replica.start()
        pod = PodId(url.removeprefix("http://"))
        replica.parts.state_listener.replica_inflight("r2", {pod: InflightNumbers(3, 300, 30)}, True)
        assert replica.parts.state.view.status(pod).load.inflight == 3
        replica.parts.state_listener.replica_gone("r2")
        assert replica.parts.state.view.status(pod).load.inflight == 0
        chain = replica.parts.state.prefix.chain("m", [b"x" * 4096])
        replica.parts.state_listener.placed_elsewhere(pod, chain)
        assert replica.parts.state.prefix.match(chain) == {pod: 16}
        replica.parts.state_listener.policy_changed("main", PolicyRecord("random", {}, 9))
        assert replica.parts.policy.controller.live("main").scheduler.name == "random"
        await replica.drain()
        server.close()

    asyncio.run(run())


def test_what_the_control_port_was_asked_to_change_is_on_the_disk_when_the_replica_has_stopped(tmp_path: Path) -> None:
    async def run() -> None:
        server, url = await engine()
        file = tmp_path / "audit.jsonl"
        control = Control(listen="127.0.0.1:0", token="sesame", audit_file=str(file))
        replica = Replica(build(settings(url, control=control)))
        await replica.start()
        host = replica.control_address
        head = (
            f"POST /admin/drain HTTP/1.1\r\nhost: {host}\r\nauthorization: Bearer sesame\r\nconnection: close\r\n\r\n"
        )
        assert b"202 Accepted" in await ask(host.port, head.encode())
        await replica.stop_asked.wait()
        await replica.drain()
        line = json.loads(file.read_text())
        assert (line["who"], line["path"], line["before"]) == ("control.token", "/admin/drain", {"phase": "ready"})
        assert line["replica"] == replica.parts.core.name
        assert [family.name for family in replica.parts.control.families()] == ["turnout_audit_lost"]
        server.close()

    asyncio.run(run())
