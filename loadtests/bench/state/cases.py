"""The measurements. Each case has its own empty redis-server and replicas as processes; `report` judges."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import fmean, median
from typing import Any, NamedTuple

from loadtests.bench.state.fleet import QUIET, ReplicaFailed, ReplicaHandle, everyone, fleet, replica
from loadtests.bench.state.report import Found, Table, delays
from loadtests.bench.state.witness import Reading, Witness
from loadtests.processes.redis_server import RedisServer
from loadtests.sim.traffic import quantile

STEADY_PODS = 16
CPU_FROM_RATE = 100.0
"""At lower rates a process's constant work hides the cost of a request."""

QUIESCENT_S = 60.0


class Sizes(NamedTuple):
    """The size of each case."""

    rates: tuple[float, ...] = (10.0, 1000.0, 5000.0)
    """Requests a second, on each replica."""
    seconds: float = 10.0
    blocks: int = 1_000_000
    warm_pods: int = 64
    starts: int = 3
    crowd: int = 8
    crowd_pods: int = 1000
    crowd_rate: float = 100.0


SMOKE = Sizes(
    rates=(200.0,), seconds=1.0, blocks=20_000, warm_pods=4, starts=1, crowd=3, crowd_pods=50, crowd_rate=20.0
)


@contextmanager
def server(directory: Path) -> Iterator[tuple[str, Witness]]:
    """A redis-server for the block: its URL, and a witness of it."""
    redis = RedisServer(directory)
    try:
        witness = Witness(redis.port)
        try:
            yield redis.url, witness
        finally:
            witness.close()
    finally:
        redis.stop()


# A steady load on two replicas


async def steady(sizes: Sizes, directory: Path) -> Table:
    """Two replicas under load: the traffic between them, its delay, its cost."""
    columns = {f"{rate:g} req/s": await _steady(rate, sizes.seconds, directory) for rate in sizes.rates}
    about = (
        f"Two replicas, {STEADY_PODS} pods, the rate is each replica's own, {sizes.seconds:g} s. A request is "
        "reserved, its prompt placed, its first token noted after 0.2 s, released after 1 s. Figures are per replica. "
        "The sync's CPU time is a request's cost with Redis minus its cost without; it includes updates received."
    )
    return Table("Two replicas under load", about, columns)


async def _steady(rate: float, seconds: float, directory: Path) -> Found:
    order = {"rate": rate, "seconds": seconds, "leave_open": False}
    async with fleet(2, QUIET, STEADY_PODS) as alone:
        apart = await everyone(alone, "load", stamps=False, **order)
    with server(directory) as (url, witness):
        async with fleet(2, url, STEADY_PODS) as both:
            before, began = witness.read(), time.monotonic()
            shared = await everyone(both, "load", stamps=True, **order)
            redis, lasted_s = witness.read().since(before), time.monotonic() - began
    return {**_traffic(shared, redis, lasted_s), **_seen(shared), **_cpu(rate, shared, apart, redis)}


def _traffic(shared: Sequence[dict[str, Any]], redis: Reading, lasted_s: float) -> dict[str, float | None]:
    return {
        "round trips/s": _rate(shared, "round_trips"),
        "KB/s sent": _rate(shared, "bytes_sent") / 1e3,
        "KB/s received": _rate(shared, "bytes_received") / 1e3,
        "scripts that Redis ran, per exchange the stores count": redis.scripts / _sum(shared, "all_round_trips"),
        "KB/s per replica into Redis, by Redis": redis.net_in_bytes / lasted_s / 2e3,
        "KB/s per replica out of Redis, by Redis": redis.net_out_bytes / lasted_s / 2e3,
        "commands that Redis ran, per request": redis.commands / _sum(shared, "requests"),
        "placements dropped": _sum(shared, "placements_dropped"),
    }


def _seen(shared: Sequence[dict[str, Any]]) -> dict[str, float | None]:
    one, two = shared
    ways = [delays(one["sent"], two["received"]), delays(two["sent"], one["received"])]
    ordered = sorted(delay for found, _ in ways for delay in found)
    return {
        "seen p50 ms": _quantile_ms(ordered, 0.5),
        "seen p99 ms": _quantile_ms(ordered, 0.99),
        "seen at most ms": _quantile_ms(ordered, 1.0),
        "never seen": float(sum(unseen for _, unseen in ways)),
        "age of the view, by the store, ms": fmean(each["age_s"] for each in shared) * 1e3,
    }


def _cpu(
    rate: float, shared: Sequence[dict[str, Any]], apart: Sequence[dict[str, Any]], redis: Reading
) -> dict[str, float | None]:
    costly = rate >= CPU_FROM_RATE
    with_it, without = (_sum(found, "cpu_s") * 1e6 / _sum(found, "requests") for found in (shared, apart))
    return {
        "CPU us/request": with_it if costly else None,
        "CPU us/request without Redis": without if costly else None,
        "CPU us/request of the sync": with_it - without if costly else None,
        "CPU us/request in Redis": redis.cpu_s * 1e6 / _sum(shared, "requests") if costly else None,
        "share of the rate that was driven": _rate(shared, "requests") / rate,
    }


# A replica that starts


async def warm_start(sizes: Sizes, directory: Path) -> Table:
    """A full index is checkpointed; then new replicas start."""
    with server(directory) as (url, witness):
        empty = witness.read().used_bytes
        async with replica("old", url, sizes.warm_pods, checkpoint_s=1.0) as old:
            await old.do("start")
            filled = await old.do("fill", blocks=sizes.blocks)
            await _until(witness.checkpoint, "no checkpoint was written")
            writing = await old.do("watched")
            started = [await _start(f"new-{at}", url, sizes.warm_pods) for at in range(sizes.starts)]
            used = witness.read().used_bytes - empty
            log_bytes, entries = witness.log_bytes()
            found = _warm(filled, writing, started)
            found |= {
                "Redis: checkpoint MB/million blocks": witness.checkpoint_bytes() / filled["blocks"],
                "Redis: all MB/million blocks": used / filled["blocks"],
                "Redis: log KB": log_bytes / 1e3,
                "Redis: log entries": float(entries),
            }
    about = (
        f"{sizes.blocks:,} placed blocks on {sizes.warm_pods} pods in a checkpoint; {sizes.starts} starts of a "
        "replica, one after another (medians; 'at most' is the worst). MB are 1,000,000 bytes. The loop is "
        "blocked by what runs between two of its turns; in wall time other processes of the machine are in it."
    )
    return Table("Warm start", about, {f"{sizes.blocks:,} blocks": found})


def _warm(
    filled: dict[str, Any], writing: dict[str, Any], started: Sequence[dict[str, Any]]
) -> dict[str, float | None]:
    if any(each["blocks"] != filled["blocks"] for each in started):
        raise ReplicaFailed(f"{[each['blocks'] for each in started]} blocks were restored of {filled['blocks']}")
    return {
        "warm after s": median(each["warm_s"] for each in started),
        "warm after at most s": max(each["warm_s"] for each in started),
        "CPU s": median(each["cpu_s"] for each in started),
        "loop blocked at most ms": max(each["blocked_s"] for each in started) * 1e3,
        "loop blocked at most ms of CPU": max(each["blocked_cpu_s"] for each in started) * 1e3,
        "writer's loop blocked at most ms": writing["blocked_s"] * 1e3,
        "writer's loop blocked at most ms of CPU": writing["blocked_cpu_s"] * 1e3,
        "replica: RSS MB/million blocks": median(each["rss_bytes"] for each in started) / filled["blocks"],
        "replica: counted MB/million blocks": filled["counted_bytes"] / filled["blocks"],
    }


async def _start(name: str, url: str, pods: int) -> dict[str, Any]:
    async with replica(name, url, pods) as new:
        return await new.do("start")


async def _until(known: Any, otherwise: str) -> None:
    end = time.monotonic() + 60.0
    while not known():
        if time.monotonic() > end:
            raise ReplicaFailed(otherwise)
        await asyncio.sleep(0.05)


# Many replicas, many pods


async def crowd(sizes: Sizes, directory: Path) -> Table:
    """Many replicas and pods; at the end every view must equal the sum of all replicas' own counts."""
    with server(directory) as (url, witness):
        async with fleet(sizes.crowd, url, sizes.crowd_pods) as replicas:
            before = witness.read()
            order = {"rate": sizes.crowd_rate, "seconds": sizes.seconds, "leave_open": True, "stamps": False}
            began = time.monotonic()
            loaded = await everyone(replicas, "load", **order)
            lasted = time.monotonic() - began
            redis = witness.read().since(before)
            differ, open_requests, settled_s = await _quiescence(replicas)
    found: Found = {
        "requests": _sum(loaded, "requests"),
        "round trips/s": _rate(loaded, "round_trips"),
        "KB/s sent": _rate(loaded, "bytes_sent") / 1e3,
        "KB/s received": _rate(loaded, "bytes_received") / 1e3,
        "CPU % of a core": fmean(each["cpu_s"] / each["seconds"] for each in loaded) * 100,
        "Redis: CPU % of a core": redis.cpu_s / lasted * 100,
        "placements dropped": _sum(loaded, "placements_dropped"),
        "open requests at the end, all replicas": float(open_requests),
        "views that differ from the truth": float(differ),
        "all views true after ms": settled_s * 1e3,
    }
    about = (
        f"{sizes.crowd} replicas with {sizes.crowd_pods:,} pods and {sizes.crowd_rate:g} req/s each for "
        f"{sizes.seconds:g} s, all on this machine; figures per replica. At the end arrivals stop with requests open, "
        "and each replica's view of every pod is compared with the sum of the replicas' own counts."
    )
    return Table("Many replicas, many pods", about, {f"{sizes.crowd} x {sizes.crowd_pods:,}": found})


async def _quiescence(replicas: list[ReplicaHandle]) -> tuple[int, int, float]:
    """(pods in views that are not the sum of the truths, open requests, seconds until there were none)."""
    began = time.monotonic()
    while True:
        numbers = await everyone(replicas, "numbers")
        truth = [sum(counts) for counts in zip(*[each["own"] for each in numbers], strict=True)]
        differ = sum(seen != true for each in numbers for seen, true in zip(each["view"], truth, strict=True))
        lasted = time.monotonic() - began
        if not differ or lasted > QUIESCENT_S:
            return differ, sum(truth), lasted
        await asyncio.sleep(0.05)


def _sum(found: Sequence[dict[str, Any]], name: str) -> float:
    return float(sum(each[name] for each in found))


def _rate(found: Sequence[dict[str, Any]], name: str) -> float:
    """Per second, the mean over the replicas."""
    return fmean(each[name] / each["seconds"] for each in found)


def _quantile_ms(ordered: Sequence[float], share: float) -> float | None:
    return quantile(ordered, share) * 1e3 if ordered else None
