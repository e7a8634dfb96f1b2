"""What goes on while streams are watched: one case is a gateway's settings and a disturbance. A new case is one row."""

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
"""Pods of the pool that the streams go through, where the thousand are another pool's."""


class Ground(NamedTuple):
    """Where the field listens."""

    pods: int
    pods_port: int
    dns_port: int
    state: str
    """URL of the shared state, for the case that has one."""


class Stage(NamedTuple):
    """What a disturbance may touch."""

    control: tuple[str, int]
    field: Owned
    field_log: Path
    redis: RedisServer | None


class NotDisturbed(Exception):
    """What was to go on did not."""


Disturb = Callable[[Stage, float], Awaitable[int]]
"""Goes on for so many seconds, and until it has happened at least once; how often it has."""


class Case(NamedTuple):
    """One thing that must not hold up streams."""

    title: str
    settings: Callable[[Ground], Mapping[str, Any]]
    disturb: Disturb
    redis: bool = False


def static(ground: Ground) -> Mapping[str, Any]:
    """All pods in the configuration."""
    pods = [f"http://{host}:{ground.pods_port}" for host in addresses(ground.pods, 9)]
    return {"pools": [{"name": "default", "pods": pods}]}


def discovered(ground: Ground) -> Mapping[str, Any]:
    """A few pods for the streams, and a pool of as many as DNS says."""
    few = [f"http://{host}:{ground.pods_port}" for host in addresses(STREAMING_PODS, 9)]
    source = f"dns://{NAME}:{ground.pods_port}"
    asked = {"source": source, "interval_s": 1.0, "nameservers": [f"127.0.0.1:{ground.dns_port}"]}
    return {"pools": [{"name": "default", "pods": few}, {"name": "found", "models": ["other"], "discovery": asked}]}


def shared(ground: Ground) -> Mapping[str, Any]:
    """State in Redis."""
    return {**static(ground), "state": ground.state}


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


async def hush(stage: Stage, seconds: float) -> int:
    """The DNS server answers nobody."""
    before = words(stage.field_log, "ignored")
    stage.field.send_signal(signal.SIGUSR2)
    await asyncio.sleep(seconds)
    await until("a DNS question that nobody answers", lambda: words(stage.field_log, "ignored") > before)
    stage.field.send_signal(signal.SIGUSR2)
    return words(stage.field_log, "ignored") - before


async def swap(stage: Stage, seconds: float) -> int:
    """DNS names other pods, all at once: as many go as come."""
    loop = asyncio.get_running_loop()
    end, times = loop.time() + seconds, 0
    while not times or loop.time() < end:
        await _swap_once(stage)
        times += 1
        await asyncio.sleep(EVERY_S)
    return times


async def _swap_once(stage: Stage) -> None:
    before = _last_answer(stage.field_log)
    stage.field.send_signal(signal.SIGUSR1)
    await until("a look that finds other pods", lambda: _last_answer(stage.field_log) != before)


async def stop_redis(stage: Stage, seconds: float) -> int:
    """Redis hangs: connections stay open and nobody answers."""
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


def words(log: Path, word: str) -> int:
    """How often the field said it."""
    return log.read_text().count(word)


def _last_answer(log: Path) -> str:
    return log.read_text().rpartition("answered ")[2][:1]


CASES: Mapping[str, Case] = {
    "metrics": Case("a /metrics scrape a second, {pods} pods", static, asking("/metrics")),
    "admin-pods": Case("GET /admin/pods once a second, {pods} pods", static, asking("/admin/pods")),
    "dns-silent": Case("a DNS server that never answers", discovered, hush),
    "discovery": Case("discovery: {pods} pods go and {pods} others come", discovered, swap),
    "redis-hung": Case("Redis hangs (SIGSTOP), {pods} pods", shared, stop_redis, redis=True),
}
"""By name."""
