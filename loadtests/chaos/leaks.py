"""What must be back to nothing once the load is over: requests in flight, connections, descriptors, keys in Redis."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Mapping
from typing import Any, Final

from loadtests.chaos.arena import Arena
from loadtests.processes.replica import ReplicaProcess

SETTLE_S: Final = 60.0
"""All of it is back within this time."""
SPARE_DESCRIPTORS: Final = 6
"""Kept connections of probes and scrapes, and a query to the name server, that may be open at a moment."""
REDIS_BYTES: Final = 64 * 2**20
"""Most memory of Redis: of it 20 MB are the log's, at most, for this load."""
LEVELS: Final = frozenset({"error", "critical"})


def descriptors(replica: ReplicaProcess) -> int:
    """Open descriptors of a replica."""
    return len(os.listdir(f"/proc/{replica.process.pid}/fd"))


def baseline(arena: Arena) -> Mapping[int, int]:
    """Descriptors of each replica before the load, by pid."""
    return {each.process.pid: descriptors(each) for each in arena.replicas.values()}


def leaked(arena: Arena, before: Mapping[int, int]) -> list[str]:
    """Wait until all is back; what is not, in words."""
    end = time.monotonic() + SETTLE_S
    while (left := list(_left(arena, before))) and time.monotonic() < end:
        time.sleep(0.25)
    return left


def _left(arena: Arena, before: Mapping[int, int]) -> Iterator[str]:
    usual = max(before.values()) + SPARE_DESCRIPTORS
    for name, replica in sorted(arena.replicas.items()):
        pods: list[dict[str, Any]] = replica.control("/admin/pods")
        for pod in pods:
            numbers = {key: pod.get(key) for key in ("inflight", "running", "queued") if pod.get(key)}
            if numbers:
                yield f"{name} counts {numbers} at {pod['address']}"
        if connections := replica.control("/admin/state")["connections"]:
            yield f"{name} has {connections} client connections"
        if (now := descriptors(replica)) > usual:
            yield f"{name} has {now} descriptors, {usual - SPARE_DESCRIPTORS} before the load"
    for pod_process in arena.pods:
        if open_requests := pod_process.open_requests():
            yield f"{open_requests} requests are open at pod {pod_process.address}"
    yield from _redis(arena)


def _redis(arena: Arena) -> Iterator[str]:
    client = arena.redis.client
    used = int(client.info("memory")["used_memory"])
    if used > REDIS_BYTES:
        yield f"Redis holds {used / 2**20:.0f} MB"
    leases = {member.decode() for member in client.zrange("{turnout}:leases", 0, -1)}  # type: ignore[union-attr]
    if leases != set(arena.replicas):
        yield f"Redis has leases of {sorted(leases)}"
    for key in client.scan_iter("{turnout}:inflight:*"):
        if (name := key.decode().rpartition(":")[2]) not in arena.replicas:
            yield f"Redis has load of {name}, which is gone"


def complaints(arena: Arena) -> list[str]:
    """Lines of the replicas' logs that report a defect: errors, tracebacks, and lines not from the logger."""
    found = []
    for path in sorted(arena.directory.glob("*/replica-*.log")):
        for line in path.read_text(errors="replace").splitlines():
            try:
                entry = json.loads(line)
            except ValueError:
                entry = {"level": "raw"}
            if entry["level"] in LEVELS or "exc" in entry or (entry["level"] == "raw" and line.strip()):
                found.append(f"{path.parent.name}, {path.stem}: {line[:600]}")
    return found
