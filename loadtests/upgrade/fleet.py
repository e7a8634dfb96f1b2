"""All processes of the upgrade: simulated pods, Redis (if the state is shared), replicas, HAProxy. Blocking code: an
event loop calls it in threads. Everything is ended by its pid when the `with` block ends.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

import httpx

from loadtests.bench.load.process import ANY_CORE, Owned
from loadtests.redis_server import RedisServer
from loadtests.sim.ports import HOST, free_ports, neighbouring_ports
from loadtests.upgrade.haproxy import HAProxy
from loadtests.upgrade.replica import ReplicaProcess, Slot, settings

START_S = 90.0
"""For what hangs: a busy machine takes a tenth of it."""


@dataclass(frozen=True)
class Plan:
    """What to build."""

    shared: bool = True
    """State in Redis; otherwise each replica keeps its own."""
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
    """A pod's own truth."""

    address: str
    open_requests: int


class FleetFailed(Exception):
    """Something did not start in time."""


class Fleet:
    """Use as a context manager: entering starts everything, and returns when HAProxy has every replica in rotation."""

    def __init__(self, plan: Plan, directory: Path) -> None:
        self.plan, self._directory = plan, directory
        slots = plan.replicas * (plan.rounds + 1)
        ports = free_ports(2 * slots + 3)
        self._slots = [Slot(f"replica-{at}", ports.pop(), ports.pop()) for at in range(slots)]
        self._sim_control, self.port, self._stats_port = ports
        self.pods: list[str] = []
        """Addresses."""
        self.replicas: list[ReplicaProcess] = []
        """Those in service, oldest first."""
        self.retired: list[ReplicaProcess] = []
        """Told to leave; they may still drain."""
        self.redis: RedisServer | None = None
        self._owned: list[Owned] = []
        self._sims = httpx.Client(
            base_url=f"http://{HOST}:{self._sim_control}", trust_env=False, verify=False, timeout=60.0
        )
        self.haproxy: HAProxy | None = None

    def __enter__(self) -> Fleet:
        try:
            self._start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _start(self) -> None:
        self._start_pods()
        if self.plan.shared:
            self.redis = RedisServer(self._directory)
        for _ in range(self.plan.replicas):
            self.start_replica()
        for replica in self.replicas:
            wait_for(f"{replica.slot.name} is ready", replica.ready)
        slots = {slot.name: slot.port for slot in [*(each.slot for each in self.replicas), *self._slots]}
        balancer = self.haproxy = HAProxy(self._directory, self.port, self._stats_port, slots)
        # Until its first check HAProxy takes every slot for a good one.
        wait_for("exactly the replicas are in rotation", lambda: balancer.in_rotation() == self.names())

    def _start_pods(self) -> None:
        ports = neighbouring_ports(self.plan.pods)
        command = [sys.executable, "-m", "router", "sim", "--port", str(ports[0]), "--count", str(len(ports))]
        options = ["--profile", self.plan.profile, "--control-port", str(self._sim_control)]
        sims = Owned([*command, *options], ANY_CORE, self._directory / "pods.log")
        self._owned.append(sims)
        self.pods = [f"{HOST}:{port}" for port in ports]
        wait_for("the pods listen", lambda: self._pods_listen(sims))

    def _pods_listen(self, sims: Owned) -> bool:
        if sims.ended():
            raise FleetFailed(f"the pods ended:\n{sims.log.read_text()}")
        try:
            return len(self.truth()) == self.plan.pods
        except httpx.TransportError:
            return False

    def names(self) -> set[str]:
        """The replicas in service."""
        return {replica.slot.name for replica in self.replicas}

    def start_replica(self) -> ReplicaProcess:
        """One more, in the next slot; not ready yet."""
        slot, plan = self._slots.pop(0), self.plan
        state = self.redis.url if self.redis is not None else "memory://"
        given = settings(slot, state, [f"http://{pod}" for pod in self.pods], plan.policy, plan.settle_s)
        replica = ReplicaProcess(slot, given, self._directory, plan.python)
        self.replicas.append(replica)
        return replica

    def wait_in_rotation(self, replica: ReplicaProcess) -> None:
        """Until HAProxy sends it requests."""
        balancer = self.haproxy
        assert balancer is not None
        wait_for("a new replica is in rotation", lambda: replica.slot.name in balancer.in_rotation())

    def retire_oldest(self) -> ReplicaProcess:
        """SIGTERM to the replica that serves longest."""
        replica = self.replicas.pop(0)
        replica.leave()
        self.retired.append(replica)
        return replica

    def truth(self) -> list[PodState]:
        """What the pods themselves hold open."""
        states: list[dict[str, Any]] = self._sims.get("/sim/pods").raise_for_status().json()
        return [PodState(f"{HOST}:{state['port']}", int(state["open_requests"])) for state in states]

    def pids(self) -> Mapping[str, list[int]]:
        """Live processes by what they are."""
        every = [*self.replicas, *self.retired]
        found = {
            "replicas": [each.process.pid for each in every if not each.process.ended()],
            "pods": [each.pid for each in self._owned],
        }
        if self.redis is not None:
            found["redis"] = [self.redis.process.pid]
        if self.haproxy is not None:
            found["haproxy"] = [self.haproxy.process.pid]
        return found

    def stop(self) -> None:
        """End everything."""
        for replica in [*self.replicas, *self.retired]:
            replica.process.terminate()
        for replica in [*self.replicas, *self.retired]:
            replica.stop()
        if self.haproxy is not None:
            self.haproxy.stop()
        if self.redis is not None:
            self.redis.stop()
        for process in self._owned:
            process.stop()
        self._sims.close()


def wait_for(what: str, look: Callable[[], bool], timeout_s: float = START_S) -> None:
    """Return once `look` says so. Raises FleetFailed."""
    end = time.monotonic() + timeout_s
    while not look():
        if time.monotonic() > end:
            raise FleetFailed(f"not within {timeout_s:g} s: {what}")
        time.sleep(0.02)
