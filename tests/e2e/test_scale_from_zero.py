"""A pool without pods holds requests until its first pod appears: real processes, found by a real DNS server."""

from __future__ import annotations

import asyncio
from contextlib import ExitStack
from pathlib import Path

import pytest

from loadtests.sim.ports import HOST, neighbouring_ports
from statesync.tasks import spawn
from tests.fakes.dns_server import DnsServer, serving
from tests.fakes.gateway_process import GatewayProcess, config, running
from tests.fakes.raw_http_client import chat, post
from tests.fakes.sim_process import MODEL, SimPods
from tests.fakes.waiting import DEADLINE_S, until

pytestmark = pytest.mark.slow

CLIENTS = 200
NAME = "engines.test."


def settings(dns: DnsServer, port: int) -> dict[str, object]:
    """One pool, whose pods are the addresses of `NAME`."""
    source = {"source": f"dns://engines.test:{port}", "nameservers": [f"{HOST}:{dns.port}"], "interval_s": 0.2}
    pool = {"name": "default", "models": [MODEL], "discovery": source, "scale_from_zero_s": 600.0}
    return config((), pools=[pool])


async def asks(port: int, answers: list[bytes]) -> None:
    """Add the status line that one client gets, on a connection of its own."""
    reader, writer = await asyncio.open_connection(HOST, port)
    writer.write(post(chat(max_tokens=4)))
    try:
        answers.append(await reader.readline())
    finally:
        writer.close()


async def held(gateway: GatewayProcess, count: int) -> None:
    """Wait until that many requests wait, and check what an autoscaler reads."""
    await until(lambda: gateway.metric("turnout_waiting_requests") == count)
    assert gateway.metric("turnout_scale_signal_waiting_requests", pool="default") == count
    assert gateway.metric("turnout_scale_signal_backlog_seconds", pool="default") >= 1
    assert gateway.metric("turnout_scale_signal_saturation_ratio", pool="default") == 1


async def from_zero(directory: Path, empty_s: float) -> None:
    """All clients are answered by a pod that appears `empty_s` after they came, and those that left are not missed."""
    with ExitStack() as stack:
        async with serving() as dns:
            dns.records[NAME, "TXT"] = 0, ["there are no pods"]
            (port,) = neighbouring_ports(1)
            gateway = await asyncio.to_thread(stack.enter_context, running(settings(dns, port), directory))
            answers: list[bytes] = []
            clients = [spawn(asks(gateway.port, answers), "client") for _ in range(CLIENTS)]
            leaves = spawn(asks(gateway.port, answers), "client that leaves")
            await held(gateway, CLIENTS + 1)
            leaves.cancel()
            await held(gateway, CLIENTS)
            await asyncio.sleep(empty_s)
            pods = await asyncio.to_thread(SimPods, 1, directory / "pods.log", first=port)
            stack.callback(pods.kill)
            dns.records[NAME, "A"] = 0, [HOST]
            async with asyncio.timeout(DEADLINE_S):
                await asyncio.gather(*clients)
            assert answers == [b"HTTP/1.1 200 OK\r\n"] * CLIENTS
            assert gateway.metric("turnout_scale_signal_backlog_seconds", pool="default") < 1
            await asyncio.to_thread(gateway.settle)


def test_two_hundred_requests_are_held_until_the_first_pod_of_a_pool_appears(tmp_path: Path) -> None:
    asyncio.run(from_zero(tmp_path, 0.0))


@pytest.mark.realtime
def test_two_hundred_requests_are_held_for_a_minute_until_the_first_pod_of_a_pool_appears(tmp_path: Path) -> None:
    asyncio.run(from_zero(tmp_path, 60.0))
