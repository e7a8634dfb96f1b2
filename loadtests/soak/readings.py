"""What a gateway and its Redis hold once nothing is in flight, and whether they hold more than before. Pure but for the
reading itself.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Final, NamedTuple

import redis

from loadtests.processes import procfs
from loadtests.processes.owned import wait_for
from loadtests.processes.replica import ReplicaProcess

SETTLE_S: Final = 6.0
"""Idle connections to pods are closed, and the last updates are sent."""
RSS_GROWTH: Final = 0.05
REDIS_BYTES: Final = 64 * 2**20
"""Most memory of Redis; a log of 250,000 small entries has 25 MB."""
SPARE_DESCRIPTORS: Final = 3
"""A probe or a scrape may be under way at the moment of a reading."""


class Reading(NamedTuple):
    """The state after a number of requests, nothing in flight."""

    requests: int
    rss_bytes: int
    descriptors: int
    inflight: int
    connections: int
    redis_bytes: int
    redis_keys: int


def read(requests: int, gateway: ReplicaProcess, client: redis.Redis) -> Reading:
    """Wait until nothing is in flight and idle connections are closed, and read. Raises NotReady if it does not end."""
    wait_for("nothing in flight", lambda: _inflight(gateway) == 0 and _connections(gateway) == 0)
    time.sleep(SETTLE_S)
    pid = gateway.process.pid
    return Reading(
        requests,
        procfs.read([pid]).rss_bytes,
        len(os.listdir(f"/proc/{pid}/fd")),
        _inflight(gateway),
        _connections(gateway),
        int(client.info("memory")["used_memory"]),
        int(client.dbsize()),
    )


def _inflight(gateway: ReplicaProcess) -> int:
    pods = gateway.control("/admin/pods")
    return sum(pod["inflight"] + pod["queued"] + pod["running"] for pod in pods)


def _connections(gateway: ReplicaProcess) -> int:
    return int(gateway.control("/admin/state")["connections"])


def findings(readings: Sequence[Reading]) -> Iterator[str]:
    """What grew from the first reading to the last; nothing if nothing did."""
    first, last = readings[0], readings[-1]
    growth = last.rss_bytes / first.rss_bytes - 1
    if growth > RSS_GROWTH:
        yield f"memory grew by {growth:.1%} from {first.requests} to {last.requests} requests"
    if last.descriptors > first.descriptors + SPARE_DESCRIPTORS:
        yield f"{last.descriptors} descriptors are open, {first.descriptors} after {first.requests} requests"
    if last.inflight or last.connections:
        yield f"{last.inflight} requests and {last.connections} connections are left"
    if last.redis_bytes > REDIS_BYTES:
        yield f"Redis holds {last.redis_bytes / 2**20:.0f} MB"


def table(readings: Sequence[Reading]) -> Iterator[str]:
    """The readings as lines."""
    yield f"{'requests':>9} {'RSS MB':>8} {'files':>6} {'in flight':>9} {'clients':>8} {'Redis MB':>9} {'keys':>5}"
    for each in readings:
        sizes = f"{each.rss_bytes / 2**20:8.1f} {each.descriptors:6d} {each.inflight:9d} {each.connections:8d}"
        yield f"{each.requests:9d} {sizes} {each.redis_bytes / 2**20:9.1f} {each.redis_keys:5d}"


PODS_FAIL: Final = frozenset({"500", "502"})
"""What pods that fail on purpose make of any request that reaches one."""
EXPECTED: Final[Mapping[str, frozenset[str]]] = {
    "whole": PODS_FAIL | {"200"},
    "stream": PODS_FAIL | {"200"},
    "left at once": PODS_FAIL | {"200", "left"},
    "left in the middle": PODS_FAIL | {"200"},
    "unknown model": frozenset({"404"}),
    "no JSON": frozenset({"400"}),
    "unknown path": frozenset({"404"}),
    "refused by the engine": PODS_FAIL | {"400"},
}
"""The statuses of each kind of request; `left` is an answer that had not begun when its client left."""


def failures(outcomes: Mapping[str, int]) -> Iterator[str]:
    """Outcomes that the load did not ask for, with their numbers."""
    for name, number in sorted(outcomes.items()):
        kind, _, status = name.rpartition(": ")
        if status not in EXPECTED[kind]:
            yield f"{name}: {number}"
