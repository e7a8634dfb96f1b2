"""Replicas of two installations as processes: their settings, their starts, their ends, and what they answer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import httpx

from loadtests.processes.owned import NotReady, wait_for
from loadtests.processes.replica import ReplicaProcess, Slot, listening, pool
from loadtests.prove.installation import Installation
from loadtests.sim.ports import free_ports

READY_S = 60.0
POOL = "default"


class NotComparable(Exception):
    """A part did not start or run as needed; the message says which, `replica` is its name if it is a replica."""

    def __init__(self, message: str, replica: str = "") -> None:
        super().__init__(message)
        self.replica = replica


def settings(
    slot: Slot, redis: str, namespace: str, pods: Sequence[str], *, settle_s: float = 0.0, most: int = 0
) -> dict[str, Any]:
    """The settings of a replica. Only what every version since the first knows may stand here."""
    return {
        **listening(slot.port, slot.control, settle_s, timeout_s=60.0 if settle_s else 0.5),
        "state": redis,
        "replica": slot.name,
        "sync": {"namespace": namespace},
        # On a busy machine a simulated engine may answer a probe late; it is not ill.
        "health": {"interval_s": 2.0, "timeout_s": 20.0},
        "pools": [{**pool(pods, "prefix_aware"), "max_inflight_per_pod": most}],
        "logging": {"format": "json", "level": "warning"},
    }


class Replicas:
    """All replicas of one fleet, dead ones included; the end of the `with` block ends them."""

    def __init__(self, redis: str, namespace: str, pods: Sequence[str], directory: Path) -> None:
        self._redis, self._namespace, self._pods, self._directory = redis, namespace, pods, directory
        self._every: list[ReplicaProcess] = []
        self.of: dict[str, Installation] = {}
        """By name of the replica."""

    def __enter__(self) -> Replicas:
        return self

    def __exit__(self, *error: object) -> None:
        for replica in self._every:
            replica.leave()  # all at the same time
        for replica in self._every:
            replica.stop()

    def start(self, name: str, installation: Installation, *, settle_s: float = 0.0, most: int = 0) -> ReplicaProcess:
        """Start one; it is not ready yet."""
        slot = Slot(name, *free_ports(2))
        given = settings(slot, self._redis, self._namespace, self._pods, settle_s=settle_s, most=most)
        replica = ReplicaProcess(slot, given, self._directory, installation.python, installation.before)
        self._every.append(replica)
        self.of[name] = installation
        return replica


async def ready(*replicas: ReplicaProcess) -> None:
    """Wait until each is. Raises NotComparable."""
    for replica in replicas:
        try:
            await asyncio.to_thread(wait_for, f"{replica.slot.name} is ready", replica.ready, READY_S)
        except (NotReady, RuntimeError, httpx.HTTPError) as error:
            raise NotComparable(f"{replica.slot.name} does not start: {error}", replica.slot.name) from None


async def holds(look: Callable[[], bool], within_s: float) -> bool:
    """Whether it becomes true in time; a control port that does not answer is not true."""

    def looked() -> bool:
        try:
            return look()
        except (httpx.HTTPError, ValueError, KeyError, TypeError):
            return False

    try:
        await asyncio.to_thread(wait_for, "it holds", looked, within_s)
    except NotReady:
        return False
    return True


def pods_of(replica: ReplicaProcess) -> list[Mapping[str, Any]]:
    """Its pods, as its control port shows them. Raises httpx.HTTPError."""
    pods: list[Mapping[str, Any]] = replica.control("/admin/pods")
    return pods


def inflight(replica: ReplicaProcess, count: str = "inflight") -> int:
    """Requests in flight over all pods: of all replicas, or with `own_inflight` its own. Raises httpx.HTTPError."""
    return sum(int(pod[count]) for pod in pods_of(replica))


def policy_of(replica: ReplicaProcess) -> str:
    """The pool's policy. Raises httpx.HTTPError."""
    return str(replica.control(f"/admin/pools/{POOL}/policy")["policy"])
