"""A drain as seen by clients, operators and other replicas, on real sockets."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator

import httpx
import pytest

from router.lifecycle import Phase
from router.replica.build import build
from router.replica.replica import Replica
from router.settings import Drain
from schedulers.types import PodId
from tests.fakes.local_replica import ASK, ASK_STREAM, Engine, ask, engine, settings
from tests.fakes.waiting import until


@pytest.fixture
def held() -> Iterator[asyncio.Event]:
    """Engines delay their answers until the event is set."""
    Engine.held = asyncio.Event()
    yield Engine.held
    Engine.held = None


async def state(replica: Replica) -> dict[str, object]:
    url = f"http://{replica.control_address}/admin/state"
    async with httpx.AsyncClient(trust_env=False, verify=False, timeout=60.0) as client:
        shown: dict[str, object] = (await client.get(url)).json()
        return shown


def test_while_it_settles_it_answers_with_connection_close_and_then_idle_connections_are_closed() -> None:
    async def run() -> None:
        server, url = await engine()
        replica = Replica(build(settings(url, drain=Drain(settle_s=600, timeout_s=600))))
        await replica.start()
        idle, idle_writer = await asyncio.open_connection("127.0.0.1", replica.port)
        reader, writer = await asyncio.open_connection("127.0.0.1", replica.port)
        await until(lambda: len(replica.parts.dataplane.listener.edges) == 2)
        replica.stop()
        draining = asyncio.get_running_loop().create_task(replica.drain())
        await until(lambda: replica.parts.core.lifecycle.phase is Phase.SETTLING)
        writer.write(ASK)
        answer = await reader.read()  # to the end of the connection
        assert answer.startswith(b"HTTP/1.1 200 OK")
        assert b"connection: close" in answer
        assert b"503 " in await ask(replica.port, b"GET /readyz HTTP/1.1\r\nhost: g\r\n\r\n")
        assert len(replica.parts.dataplane.listener.edges) == 1
        replica.stop(hurry=True)
        assert await idle.read() == b""
        await draining
        for each in (writer, idle_writer):
            each.close()
            await each.wait_closed()
        server.close()

    asyncio.run(run())


def test_a_stream_that_outlasts_the_drain_ends_with_an_error_event() -> None:
    async def run() -> None:
        server, url = await engine()
        replica = Replica(build(settings(url, drain=Drain(settle_s=0, timeout_s=0.05))))
        await replica.start()
        reader, writer = await asyncio.open_connection("127.0.0.1", replica.port)
        writer.write(ASK_STREAM)
        await reader.readuntil(b'data: {"n":1}\n\n')
        replica.stop()
        await replica.drain()
        rest = await reader.read()
        assert b'data: {"error":{' in rest
        assert b'"gateway_draining"' in rest
        assert b"[DONE]" not in rest
        assert not rest.endswith(b"0\r\n\r\n"), "it must not look complete"
        writer.close()
        await writer.wait_closed()
        server.close()

    asyncio.run(run())


def test_operators_see_the_phase_its_seconds_and_the_requests_left(held: asyncio.Event) -> None:
    async def run() -> None:
        server, url = await engine()
        replica = Replica(build(settings(url)))
        await replica.start()
        asking = asyncio.get_running_loop().create_task(ask(replica.port))
        await until(lambda: len(replica.parts.network.admission.active) == 1)
        replica.stop()
        draining = asyncio.get_running_loop().create_task(replica.drain())
        await until(lambda: replica.parts.core.lifecycle.phase is Phase.DRAINING)
        shown = await state(replica)
        assert (shown["phase"], shown["active"], shown["ready"]) == ("draining", 1, False)
        seconds = shown["phase_seconds"]
        assert isinstance(seconds, dict)
        assert list(seconds) == ["starting", "warming", "ready", "settling", "draining"]
        async with httpx.AsyncClient(trust_env=False, verify=False, timeout=60.0) as client:
            metrics = (await client.get(f"http://{replica.control_address}/metrics")).text
        assert 'turnout_phase{phase="draining"} 1.0' in metrics
        assert "turnout_active_requests 1.0" in metrics
        held.set()
        assert b"200 OK" in await asking
        await draining
        server.close()

    asyncio.run(run())


def test_a_drained_replica_removes_its_load_and_lease_before_its_control_port_closes(
    held: asyncio.Event, caplog: pytest.LogCaptureFixture
) -> None:
    async def run() -> None:
        server, url = await engine()
        pod = PodId(url.removeprefix("http://"))
        old = Replica(
            build(settings(url, replica="old", state="memory://drained", drain=Drain(settle_s=0, timeout_s=600)))
        )
        new = Replica(build(settings(url, replica="new", state="memory://drained")))
        await old.start()
        await new.start()
        asking = asyncio.get_running_loop().create_task(ask(old.port))
        await until(lambda: new.parts.state.view.status(pod).load.inflight == 1)
        assert new.parts.state.view.status(pod).own_inflight == 0
        assert [each.id for each in new.parts.state.store.replicas()] == ["new", "old"]
        old.stop()
        draining = asyncio.get_running_loop().create_task(old.drain())
        await until(lambda: old.parts.core.lifecycle.phase is Phase.DRAINING)
        old.stop(hurry=True)
        assert b'"gateway_draining"' in await asking
        await draining
        assert new.parts.state.view.status(pod).load.inflight == 0
        assert [each.id for each in new.parts.state.store.replicas()] == ["new"]
        held.set()
        await new.close()
        server.close()

    with caplog.at_level(logging.INFO, "turnout"):
        asyncio.run(run())
    said = [record.getMessage() for record in caplog.records if record.name.startswith("turnout.")]
    way = ["ready -> settling", "settling -> draining", "listens no more", "accepting no more", "cutting off 1"]
    way += ["draining -> closed", "drained in", "state flushed and lease given back"]
    places = [next(at for at, line in enumerate(said) if words in line) for words in way]
    assert places == sorted(places)
