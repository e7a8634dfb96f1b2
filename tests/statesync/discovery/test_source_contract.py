"""The contract of a source, tested on every source whose pods change: full lists, and no fault removes a pod."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import NamedTuple

import dns.rcode
import pytest

from loadtests.kubernetes.api import PODS
from loadtests.kubernetes.objects import pod_object
from schedulers.types import Pod
from statesync.discovery import source as sources
from statesync.discovery.dns.source import DnsSource, name_of, open_resolver
from statesync.discovery.ray_serve import RayServeSource, target_of
from statesync.discovery.source import PodSource
from tests.fakes.dns_server import serving
from tests.fakes.kube_pod_source import ground
from tests.fakes.ray_dashboard import RayDashboard
from tests.fakes.virtual_time import Clock
from tests.fakes.waiting import DEADLINE_S

NAME = "vllm.ns.svc."
LOOKS = 10
"""Looks in which a change must be seen, and after which a fault would have done its harm."""


class World(NamedTuple):
    """A running source, and what it asks."""

    sent: Callable[[], list[set[str]]]
    """The lists that the source sent, as hosts."""
    has: Callable[[Sequence[str]], None]
    """Sets the hosts that there are."""
    away: Callable[[bool], None]
    """Makes what the source asks fail, or answer again."""
    until: Callable[[Callable[[], bool]], Awaitable[None]]
    """Lets the source look until this holds."""
    looks: Callable[[], Awaitable[None]]
    """Lets the source look several times."""

    async def shows(self, *hosts: str) -> None:
        """The last list comes to have exactly these."""
        await self.until(lambda: self.sent()[-1:] == [set(hosts)])


def hosts(pods: Sequence[Pod]) -> set[str]:
    return {pod.address.rpartition(":")[0] for pod in pods}


@asynccontextmanager
async def polled(
    source: PodSource, clock: Clock, has: Callable[[Sequence[str]], None], away: Callable[[bool], None]
) -> AsyncIterator[World]:
    """Of a source that sleeps between two looks."""
    sent = list[set[str]]()

    async def until(met: Callable[[], bool]) -> None:
        for _ in range(LOOKS):
            left = await asyncio.wait_for(clock.until_asleep(), DEADLINE_S)
            if met():
                return
            clock.now += left
        raise AssertionError(f"never met; the source sent {sent}")

    async def looks() -> None:
        for _ in range(LOOKS):
            clock.now += await asyncio.wait_for(clock.until_asleep(), DEADLINE_S)
        await asyncio.wait_for(clock.until_asleep(), DEADLINE_S)

    task = asyncio.get_running_loop().create_task(source.run(lambda pods: sent.append(hosts(pods))))
    try:
        yield World(lambda: sent, has, away, until, looks)
    finally:
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled(), "a source runs until it is cancelled, and then ends"


@asynccontextmanager
async def over_dns(_: Path) -> AsyncIterator[World]:
    async with serving() as server:

        def has(found: Sequence[str]) -> None:
            server.records.clear()
            if found:
                server.records[NAME, "A"] = (5, list(found))

        def away(gone: bool) -> None:
            server.rcode = {NAME: dns.rcode.SERVFAIL} if gone else {}

        clock = Clock(0.0)
        resolver = open_resolver([("127.0.0.1", server.port)], timeout_s=DEADLINE_S)
        source = DnsSource(name_of("dns://vllm.ns.svc:8000"), resolver=resolver, sleep=clock.sleep, rng=lambda: 0.0)
        async with polled(source, clock, has, away) as world:
            yield world


@asynccontextmanager
async def over_ray(_: Path) -> AsyncIterator[World]:
    dashboard, clock = RayDashboard(), Clock(0.0)
    dashboard.application["route_prefix"] = "/"

    def has(found: Sequence[str]) -> None:
        dashboard.proxies(**dict.fromkeys(found, "HEALTHY"))

    def away(gone: bool) -> None:
        dashboard.error = ConnectionRefusedError("refused") if gone else None

    target = target_of("ray+http://head/llm")
    source = RayServeSource(target, dashboard.read, sleep=clock.sleep, rng=lambda: 0.0)
    async with polled(source, clock, has, away) as world:
        yield world


@asynccontextmanager
async def over_kubernetes(directory: Path) -> AsyncIterator[World]:
    async with ground(directory) as cluster:
        there = set[str]()

        def has(found: Sequence[str]) -> None:
            for host in there.symmetric_difference(found):
                if host in there:
                    cluster.api.delete(PODS, "llm", host.replace(".", "-"))
                else:
                    cluster.api.put(PODS, pod_object(host.replace(".", "-"), host))
            there.clear()
            there.update(found)

        def away(gone: bool) -> None:
            cluster.api.down = gone
            cluster.api.cut()

        async def looks() -> None:
            end = cluster.clock.now + 10 * LOOKS
            await cluster.until(lambda: cluster.clock.now >= end, each_s=0.5)

        until = partial(cluster.until, each_s=0.5)
        yield World(lambda: [hosts(pods) for pods in cluster.received], has, away, until, looks)


WORLDS: dict[str, Callable[[Path], AbstractAsyncContextManager[World]]] = {
    "dns": over_dns,
    "kubernetes": over_kubernetes,
    "ray+http": over_ray,
}


@pytest.fixture(autouse=True)
def direct(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keeps requests to 127.0.0.1 away from a proxy in the environment."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


def test_no_source_is_missing_here() -> None:
    openers = {opener: scheme for scheme, opener in reversed(list(sources._SOURCES.items()))}
    assert set(WORLDS) == set(openers.values())


@pytest.mark.parametrize("scheme", WORLDS)
def test_each_change_is_sent_as_a_full_list_and_no_fault_removes_a_pod(scheme: str, tmp_path: Path) -> None:
    async def scene() -> None:
        async with WORLDS[scheme](tmp_path) as world:
            world.has(["10.0.0.1", "10.0.0.2"])
            await world.shows("10.0.0.1", "10.0.0.2")
            world.has(["10.0.0.2", "10.0.0.3"])
            await world.shows("10.0.0.2", "10.0.0.3")
            before = len(world.sent())
            world.away(True)
            await world.looks()
            assert len(world.sent()) == before
            world.has(["10.0.0.3"])
            world.away(False)
            await world.shows("10.0.0.3")
            world.has([])
            await world.shows()

    asyncio.run(scene())


@pytest.mark.parametrize("scheme", WORLDS)
def test_what_is_away_from_the_start_leaves_the_pool_unknown(scheme: str, tmp_path: Path) -> None:
    async def scene() -> None:
        async with WORLDS[scheme](tmp_path) as world:
            world.away(True)
            await world.looks()
            assert world.sent() == []
            world.has(["10.0.0.1"])
            world.away(False)
            await world.shows("10.0.0.1")

    asyncio.run(scene())
