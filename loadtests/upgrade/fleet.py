"""All processes of the upgrade: simulated pods, Redis (if the state is shared), replicas, HAProxy. Blocking code: an
event loop calls it in threads. The end of the `with` block ends every process by its pid.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import httpx

from loadtests.processes.owned import wait_for
from loadtests.processes.redis_server import RedisServer
from loadtests.processes.replica import ReplicaProcess, Slot, settings
from loadtests.processes.sim_pods import SimPods
from loadtests.sim.ports import HOST, free_ports
from loadtests.upgrade.haproxy import HAProxy


@dataclass(frozen=True)
class Plan:
    """How many of which processes."""

    shared: bool = True
    """State in Redis; otherwise each replica has only its own."""
    pods: int = 8
    replicas: int = 3
    rounds: int = 2
    """How often each replica will be rolled: slots are made beforehand."""
    policy: str = "prefix_aware"
    profile: str = "paced"
    settle_s: float = 3.0
    """More than HAProxy needs to see that a replica is no longer ready."""
    python: str = sys.executable


class PodState(NamedTuple):
    """A pod, by its own count."""

    address: str
    open_requests: int


class Fleet:
    """Use as a context manager: entering starts everything, and returns when HAProxy has every replica in rotation."""

    def __init__(self, plan: Plan, directory: Path) -> None:
        self.plan, self._directory = plan, directory
        slots = plan.replicas * (plan.rounds + 1)
        ports = free_ports(2 * slots + 3)
        self._slots = [Slot(f"replica-{at}", ports.pop(), ports.pop()) for at in range(slots)]
        self._sim_control, self.port, self._stats_port = ports
        self.replicas: list[ReplicaProcess] = []
        """Those in service, oldest first."""
        self.retired: list[ReplicaProcess] = []
        """Those that got SIGTERM; they may still drain."""
        self._stack = ExitStack()
        self._pods: SimPods | None = None
        self._redis: RedisServer | None = None
        self.haproxy: HAProxy | None = None
        self._sims = httpx.Client(
            base_url=f"http://{HOST}:{self._sim_control}", trust_env=False, verify=False, timeout=60.0
        )

    def __enter__(self) -> Fleet:
        with ExitStack() as starting:
            starting.callback(self._stack.close)
            self._start()
            starting.pop_all()
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    def _start(self) -> None:
        plan, stack = self.plan, self._stack
        stack.callback(self._sims.close)
        self._pods = stack.enter_context(SimPods(plan.pods, plan.profile, self._directory, self._sim_control))
        if plan.shared:
            self._redis = stack.enter_context(RedisServer(self._directory))
        stack.callback(self._end_replicas)
        for _ in range(plan.replicas):
            self.start_replica()
        for replica in self.replicas:
            wait_for(f"{replica.slot.name} is ready", replica.ready)
        slots = {slot.name: slot.port for slot in [*(each.slot for each in self.replicas), *self._slots]}
        balancer = self.haproxy = HAProxy(self._directory, self.port, self._stats_port, slots)
        stack.callback(balancer.stop)
        # HAProxy takes every slot for a good one until its first check.
        wait_for("exactly the replicas are in rotation", lambda: balancer.in_rotation() == self.names())

    def _end_replicas(self) -> None:
        every = [*self.replicas, *self.retired]
        for replica in every:
            replica.leave()  # all at the same time
        for replica in every:
            replica.stop()

    def names(self) -> set[str]:
        """The replicas in service."""
        return {replica.slot.name for replica in self.replicas}

    def start_replica(self) -> ReplicaProcess:
        """Start one more, in the next slot; it is not ready yet."""
        assert self._pods is not None
        slot, plan = self._slots.pop(0), self.plan
        state = self._redis.url if self._redis is not None else "memory://"
        given = settings(slot, state, self._pods.urls, plan.policy, plan.settle_s)
        replica = ReplicaProcess(slot, given, self._directory, plan.python)
        self.replicas.append(replica)
        return replica

    def wait_in_rotation(self, replica: ReplicaProcess) -> None:
        """Until HAProxy sends it requests."""
        balancer = self.haproxy
        assert balancer is not None
        wait_for("a new replica is in rotation", lambda: replica.slot.name in balancer.in_rotation())

    def retire_oldest(self) -> ReplicaProcess:
        """SIGTERM to the replica that has served longest."""
        replica = self.replicas.pop(0)
        replica.leave()
        self.retired.append(replica)
        return replica

    def truth(self) -> list[PodState]:
        """The open requests of each pod, by the pod's own count."""
        states: list[dict[str, Any]] = self._sims.get("/sim/pods").raise_for_status().json()
        return [PodState(f"{HOST}:{state['port']}", int(state["open_requests"])) for state in states]

    def pids(self) -> Mapping[str, list[int]]:
        """Live processes by kind."""
        every = [*self.replicas, *self.retired]
        parts = {"pods": self._pods, "redis": self._redis, "haproxy": self.haproxy}
        return {
            "replicas": [each.process.pid for each in every if not each.process.ended()],
            **{kind: [part.process.pid] for kind, part in parts.items() if part is not None},
        }
