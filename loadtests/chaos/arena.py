"""All processes of a run: simulated engines, each behind a proxy; two Redis servers with a Sentinel, behind proxies for
each replica; a Kubernetes API and a name server; the replicas. Blocking code: an event loop calls it in threads. The
end of the `with` block ends every process by its pid.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import httpx

from loadtests.chaos.cluster import Cluster
from loadtests.chaos.names import NAME, NameServer
from loadtests.chaos.redis_pair import NAME as MASTER
from loadtests.chaos.redis_pair import RedisPair
from loadtests.processes.owned import ANY_CORE, Owned, wait_for, wait_until_ready
from loadtests.processes.replica import ReplicaProcess, Slot, listening
from loadtests.processes.slow_link import SlowLink
from loadtests.sim.ports import HOST, free_ports

CLUSTER, NAMED = "cluster-model", "named-model"
"""The model of the pool whose pods Kubernetes names, and of the pool that DNS finds."""
ROOM: Final = 12
"""Requests in flight at a pod at a time, by the pools' settings: what 100 % of the load is measured by."""
SPEED: Final = 2.0
"""Of the paced profile: twenty tokens a second, whatever the batch."""
TOKEN_S: Final = 0.1 / SPEED
FAKETIME: Final = next(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"), None)
"""Lets a process see another wall clock; None if Debian's faketime is not installed."""


@dataclass(frozen=True)
class Layout:
    """How many of which processes."""

    replicas: int = 3
    cluster_pods: int = 4
    named_pods: int = 2
    mid_stream: bool = False
    """Whether the pools move a stream whose pod dies to another pod."""
    python: str = sys.executable


class Pod:
    """A simulated engine as a process, and the proxy through which the replicas reach it."""

    def __init__(self, model: str, directory: Path, host: str = HOST, port: int = 0) -> None:
        """`host` and `port` are the proxy's; a port of 0 is any."""
        self.model, self._directory = model, directory
        self.port = free_ports(1)[0]
        self.link = SlowLink(self.port, host, port)
        self.link.start()
        self.process = self._start()
        self._client = httpx.Client(base_url=f"http://{HOST}:{self.port}", trust_env=False, timeout=10.0)

    @property
    def address(self) -> str:
        """Where the replicas reach it."""
        return f"{self.link.host}:{self.link.port}"

    def _start(self) -> Owned:
        options = ["--port", str(self.port), "--profile", "paced", "--speed", f"{SPEED:g}", "--model", self.model]
        command = [sys.executable, "-m", "router", "sim", *options]
        return Owned(command, ANY_CORE, self._directory / f"pod-{self.port}.log")

    def restart(self) -> None:
        """Start it again after its end."""
        self.process = self._start()
        self.wait()

    def wait(self) -> None:
        """Until it answers."""
        wait_until_ready(self.process, f"http://{HOST}:{self.port}/health")

    def fault(self, kind: str, **fields: Any) -> None:
        """Switch a fault of `turnout sim` on."""
        self._client.put("/sim/faults", json={"kind": kind, **fields}).raise_for_status()

    def well(self) -> None:
        """Switch it off."""
        self._client.delete("/sim/faults").raise_for_status()

    def open_requests(self) -> int:
        """By its own count."""
        return int(self._client.get("/sim/state").raise_for_status().json()["open_requests"])

    def stop(self) -> None:
        """End it and its proxy."""
        self._client.close()
        self.process.kill()
        self.link.stop()


class Arena:
    """Use as a context manager: entering starts everything, and returns when every replica is ready."""

    def __init__(self, layout: Layout, directory: Path) -> None:
        self.layout, self.directory = layout, directory
        self._stack = ExitStack()
        self.pods: list[Pod] = []
        self.redis: RedisPair
        self.state_links: list[list[SlowLink]] = []
        """To Sentinel and both Redis servers, for each replica."""
        self.cluster: Cluster
        self.names: NameServer
        self.replicas: dict[str, ReplicaProcess] = {}
        """The live ones by name."""
        self.gone: list[ReplicaProcess] = []
        """Those that were ended: killed, or rolled."""
        self.rotation: list[tuple[str, int]] = []
        """Names and ports of the replicas that get requests."""
        self._clocks: dict[str, Path] = {}
        self._started = 0

    def __enter__(self) -> Arena:
        with ExitStack() as starting:
            starting.callback(self._stack.close)
            self._start()
            starting.pop_all()
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    def _start(self) -> None:
        layout = self.layout
        named_port = free_ports(1)[0]
        hosts = [f"127.0.1.{number + 1}" for number in range(layout.named_pods)]
        for _ in range(layout.cluster_pods):
            self._keep(Pod(CLUSTER, self.directory))
        for host in hosts:
            self._keep(Pod(NAMED, self.directory, host, named_port))
        self.redis = self._stack.enter_context(RedisPair(self.directory))
        self.cluster = Cluster([pod.address for pod in self.pods if pod.model == CLUSTER], self.directory)
        self._stack.callback(self.cluster.stop)
        self.names = NameServer(hosts)
        self._stack.callback(self.names.stop)
        for number in range(layout.replicas):
            self.state_links.append(self.redis.links())
            for link in self.state_links[-1]:
                self._stack.callback(link.stop)
            self._clocks[f"replica-{number}"] = self.directory / f"replica-{number}.clock"
        for pod in self.pods:
            pod.wait()
        self._stack.callback(self._end_replicas)
        started = [self.start_replica(number) for number in range(layout.replicas)]
        for replica in started:
            self.admit(replica)

    def _keep(self, pod: Pod) -> None:
        self.pods.append(pod)
        self._stack.callback(pod.stop)

    def start_replica(self, number: int) -> ReplicaProcess:
        """Start a replica at a place of its own; it is not ready yet."""
        slot = Slot(f"replica-{number}", *free_ports(2))
        self.set_clock(slot.name, 0)
        self._started += 1
        place = self.directory / f"start-{self._started}"  # each keeps its log
        place.mkdir()
        settings = self._settings(slot, number)
        replica = ReplicaProcess(slot, settings, place, self.layout.python, self._before(slot))
        self.replicas[slot.name] = replica
        return replica

    def _before(self, slot: Slot) -> Sequence[str]:
        """What lets it reach the Kubernetes API without a proxy, and its wall clock be set."""
        direct = ("env", f"NO_PROXY={HOST}")
        if FAKETIME is None:
            return direct
        clock = self._clocks[slot.name]
        return (
            *direct,
            f"LD_PRELOAD={FAKETIME}",
            f"FAKETIME_TIMESTAMP_FILE={clock}",
            "FAKETIME_CACHE_DURATION=1",
            "FAKETIME_DONT_FAKE_MONOTONIC=1",
        )

    def admit(self, replica: ReplicaProcess) -> None:
        """Wait until it is ready and has found its pods, and put it into rotation."""
        wait_for(f"{replica.slot.name} is ready", replica.ready)
        # On a busy machine it may become ready before it has found them: it does not wait longer than ten seconds.
        wait_for(f"{replica.slot.name} has its pods", lambda: self._pods_of(replica) == self.cluster.names)
        self.rotation.append((replica.slot.name, replica.slot.port))

    def retire(self, name: str) -> ReplicaProcess:
        """Take a replica out of rotation, for its end."""
        self.rotation = [each for each in self.rotation if each[0] != name]
        replica = self.replicas.pop(name)
        self.gone.append(replica)
        return replica

    def pods_known(self) -> set[frozenset[str]]:
        """The pods of the Kubernetes API that each replica has: one set if all have the same ones."""
        return {self._pods_of(replica) for replica in self.replicas.values()}

    @staticmethod
    def _pods_of(replica: ReplicaProcess) -> frozenset[str]:
        pods = replica.control("/admin/pods")
        return frozenset(pod["id"].partition(".")[0] for pod in pods if pod["pool"] == "cluster")

    def set_clock(self, name: str, offset_s: int) -> None:
        """Move a replica's wall clock."""
        self._clocks[name].write_text(f"{offset_s:+d}s\n")

    def _settings(self, slot: Slot, number: int) -> dict[str, Any]:
        failover = {"failover": {"mid_stream": True}} if self.layout.mid_stream else {}
        common = {"policy": {"name": "prefix_aware"}, "max_inflight_per_pod": ROOM, **failover}
        port = self.pods[-1].link.port
        found = {
            "source": f"dns://{NAME}:{port}",
            "interval_s": 1.0,
            "nameservers": [f"{HOST}:{self.names.port}"],
        }
        return {
            **listening(slot.port, slot.control, settle_s=1.5, timeout_s=60.0),
            "state": f"redis+sentinel://{HOST}:{self.state_links[number][0].port}/{MASTER}",
            "replica": slot.name,
            "pools": [
                {"name": "cluster", "discovery": {"source": self.cluster.source}, "models": [CLUSTER], **common},
                {"name": "named", "discovery": found, "models": [NAMED], **common},
            ],
            "sync": {"lease_s": 3.0, "timeout_s": 1.0, "checkpoint_s": 10.0},
            "timeouts": {"first_byte_s": 8.0, "idle_s": 4.0, "connect_s": 1.0, "upstream_keepalive_s": 3.0},
            "limits": {"queue_timeout_s": 10.0},
            "health": {"interval_s": 1.0, "timeout_s": 1.0, "eject_s": 1.0, "eject_max_s": 4.0},
            "recording": {"path": str(self.directory / f"{slot.name}.jsonl")},
            "logging": {"format": "json"},
        }

    def _end_replicas(self) -> None:
        every = [*self.replicas.values(), *self.gone]
        for replica in every:
            replica.leave()
        for replica in every:
            replica.stop()


def capacity(layout: Layout) -> Mapping[str, int]:
    """Requests in flight that each model's pods hold."""
    return {CLUSTER: layout.cluster_pods * ROOM, NAMED: layout.named_pods * ROOM}
