"""The disturbances of measured streams: a case is a gateway's settings and an operation. A new case is one row."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from loadtests.bench.freeze.nameserver import NAME, addresses
from loadtests.processes.owned import Owned
from loadtests.processes.redis_server import RedisServer
from loadtests.sim.http_client import Client

EVERY_S = 1.0
LOOK_S = 0.02
ANSWER_S = 60.0
"""For what hangs."""
STREAMING_PODS = 8
"""Pods of the streams' pool, where the thousand pods are in another pool."""


class Ports(NamedTuple):
    """The simulated cluster: how many pods there are, and where pods and DNS server listen."""

    pods: int
    pods_port: int
    dns_port: int
    state: str
    """URL of the shared state, for the case that has one."""


class Stage(NamedTuple):
    """The parts that a disturbance may act on."""

    control: tuple[str, int]
    cluster: Owned
    cluster_log: Path
    redis: RedisServer | None


class NotDisturbed(Exception):
    """A disturbance did not take place."""


Disturb = Callable[[Stage, float], Awaitable[int]]
"""Runs for the given seconds, and at least until it has happened once; returns how often it has."""


class Case(NamedTuple):
    """One operation that must not delay streams."""

    title: str
    settings: Callable[[Ports], Mapping[str, Any]]
    disturb: Disturb
    redis: bool = False


def static(cluster: Ports) -> Mapping[str, Any]:
    """All pods in the configuration."""
    pods = [f"http://{host}:{cluster.pods_port}" for host in addresses(cluster.pods, 9)]
    return {"pools": [{"name": "default", "pods": pods}]}


def discovered(cluster: Ports) -> Mapping[str, Any]:
    """A few pods for the streams, and a second pool with the pods of the DNS name."""
    few = [f"http://{host}:{cluster.pods_port}" for host in addresses(STREAMING_PODS, 9)]
    source = f"dns://{NAME}:{cluster.pods_port}"
    asked = {"source": source, "interval_s": 1.0, "nameservers": [f"127.0.0.1:{cluster.dns_port}"]}
    return {"pools": [{"name": "default", "pods": few}, {"name": "found", "models": ["other"], "discovery": asked}]}


def shared(cluster: Ports) -> Mapping[str, Any]:
    """State in Redis."""
    return {**static(cluster), "state": cluster.state}


def asking(path: str) -> Disturb:
    """GET `path` once a second."""

    async def disturb(stage: Stage, seconds: float) -> int:
        loop, client = asyncio.get_running_loop(), Client(*stage.control, resend=True)
        end, times = loop.time() + seconds, 0
        try:
            while not times or loop.time() < end:
                answer = await client.get(path, ANSWER_S)
                if answer.status != 200 or not answer.complete or not answer.pieces:
                    raise NotDisturbed(f"{path}: {answer.failure or answer.status}, {len(answer.body)} bytes")
                times += 1
                await asyncio.sleep(min(EVERY_S, max(0.0, end - loop.time())))
        finally:
            client.close()
        return times

    return disturb


async def silence(stage: Stage, seconds: float) -> int:
    """The DNS server answers no question."""
    before = count_of(stage.cluster_log, "ignored")
    stage.cluster.send_signal(signal.SIGUSR2)
    await asyncio.sleep(seconds)
    await until("a DNS question without an answer", lambda: count_of(stage.cluster_log, "ignored") > before)
    stage.cluster.send_signal(signal.SIGUSR2)
    return count_of(stage.cluster_log, "ignored") - before


async def swap(stage: Stage, seconds: float) -> int:
    """The DNS name changes to other pods, all at once."""
    loop = asyncio.get_running_loop()
    end, times = loop.time() + seconds, 0
    while not times or loop.time() < end:
        await _swap_once(stage)
        times += 1
        await asyncio.sleep(EVERY_S)
    return times


async def _swap_once(stage: Stage) -> None:
    before = _last_answer(stage.cluster_log)
    stage.cluster.send_signal(signal.SIGUSR1)
    await until("a DNS answer with the other pods", lambda: _last_answer(stage.cluster_log) != before)


async def stop_redis(stage: Stage, seconds: float) -> int:
    """Redis hangs: connections stay open without answers."""
    if stage.redis is None:
        raise NotDisturbed("there is no Redis to stop")
    stage.redis.pause()
    try:
        await asyncio.sleep(seconds)
    finally:
        stage.redis.resume()
    return 1


async def until(what: str, look: Callable[[], bool], timeout_s: float = 90.0) -> None:
    """Wait for another process. Raises NotDisturbed when it takes too long."""
    try:
        async with asyncio.timeout(timeout_s):
            while not look():  # noqa: ASYNC110  another process's log has no event
                await asyncio.sleep(LOOK_S)
    except TimeoutError:
        raise NotDisturbed(f"not within {timeout_s:g} s: {what}") from None


def count_of(log: Path, word: str) -> int:
    """How often the log of the simulated cluster has that word."""
    return log.read_text().count(word)


def _last_answer(log: Path) -> str:
    return log.read_text().rpartition("answered ")[2][:1]


CASES: Mapping[str, Case] = {
    "metrics": Case("a /metrics scrape a second, {pods} pods", static, asking("/metrics")),
    "admin-pods": Case("GET /admin/pods once a second, {pods} pods", static, asking("/admin/pods")),
    "dns-silent": Case("a DNS server that never answers", discovered, silence),
    "discovery": Case("discovery: {pods} pods replaced by {pods} others", discovered, swap),
    "redis-hung": Case("Redis hangs (SIGSTOP), {pods} pods", shared, stop_redis, redis=True),
}
"""By name."""
