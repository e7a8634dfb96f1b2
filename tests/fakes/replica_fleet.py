"""Redis, simulated pods and replicas as real processes for chaos tests, with load on each replica directly, so
that the cause of a failure is known. At its end `ground` asserts what must hold after any fault: every record is
a whole answer, nothing is in flight on any replica, in Redis or on a pod, leases are given back, no log has an error.
"""

from __future__ import annotations

import asyncio
import resource
import signal
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from time import perf_counter
from types import TracebackType
from typing import Any

import pytest
import redis
import uvloop

from loadtests.processes import procfs
from loadtests.processes.redis_server import RedisServer
from loadtests.processes.slow_link import SlowLink, slow_link
from loadtests.sim.conversation import Shape
from loadtests.sim.ports import HOST
from loadtests.sim.traffic import quantile
from loadtests.upgrade.load import LONG, Load, Mix, Record
from statesync.store.redis.keys import RedisKeys
from statesync.store.redis.messages import MessageDecoder
from tests.fakes.gateway_process import PATIENT_SYNC, GatewayProcess, config, pool
from tests.fakes.sim_process import SimPods, sim_pods
from tests.fakes.waiting import DEADLINE_S, wait_for

SHORT_LEASE = PATIENT_SYNC | {"lease_s": 3.0}
"""For tests in which a lease expires. On a busy machine a live replica's may, too; it recovers."""
KEYS = RedisKeys("turnout")
QUICK = ("--profile", "paced", "--speed", "5")
"""Pods that generate fifty tokens a second."""
MIX = Mix(
    talkers=60,
    askers=0,
    period_s=0.6,
    listeners=12,
    long_tokens=250,
    ramp_s=1.0,
    talk=Shape(system_tokens=100, turn_tokens=60, max_tokens=4, think_s=0.0),
)
"""On each replica: 100 requests a second, and a dozen streams of five seconds."""

needs_redis = pytest.mark.needs("redis-server")


class Loading:
    """The users of each replica, on an event loop in its own thread, for the block. All requests end with the block."""

    def __init__(self, gateways: Mapping[str, GatewayProcess], mix: Mix = MIX) -> None:
        self.by_replica = {
            name: Load(each.host, each.port, mix, seed) for seed, (name, each) in enumerate(gateways.items())
        }
        self._loop = uvloop.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="load")
        self._failure: BaseException | None = None

    def _run(self) -> None:
        async def all_of_them() -> None:
            async with asyncio.TaskGroup() as group:
                for load in self.by_replica.values():
                    group.create_task(load.run())

        try:
            with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
                runner.run(all_of_them())
        except BaseException as error:  # noqa: BLE001  raised again where the block ends
            self._failure = error

    def __enter__(self) -> Loading:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for name in self.by_replica:
            self.no_more(name)
        self._thread.join(DEADLINE_S)
        assert not self._thread.is_alive(), "the load did not end"
        if self._failure is not None and error is None:
            raise self._failure

    def no_more(self, *replicas: str) -> None:
        """Send these replicas no new requests; requests in flight go on to their end."""
        for name in replicas:
            self._loop.call_soon_threadsafe(self.by_replica[name].no_more.set)

    @property
    def records(self) -> list[Record]:
        """All records so far."""
        return [record for load in self.by_replica.values() for record in load.records]

    def flow(self, seconds: float, *replicas: str) -> None:
        """Wait until each of these replicas (default: all) has answered a request that began `seconds` from now."""
        then = perf_counter() + seconds
        for name in replicas or self.by_replica:
            records = self.by_replica[name].records
            wait_for(
                f"{name} answers",
                lambda each=records: any(r.started_at > then for r in each[-200:]),  # type: ignore[misc]
                seconds + DEADLINE_S,
            )

    def steady(self) -> None:
        """Wait until every user has started and every stream is open."""
        for name, load in self.by_replica.items():
            wait_for(f"all streams of {name}", lambda each=load: each.open[LONG] >= MIX.listeners)  # type: ignore[misc]
        self.flow(1.0)


class Ground:
    """The processes and the load."""

    def __init__(
        self,
        directory: Path,
        sims: SimPods,
        server: RedisServer,
        slow: SlowLink | None,
        sync: Mapping[str, float],
    ) -> None:
        self.redis, self.sims = server, sims
        self._sync = dict(sync)
        self.state = f"redis://{HOST}:{slow.port}" if slow is not None else server.url
        self.slow = slow
        self.link = redis.Redis(port=server.port, socket_timeout=DEADLINE_S)
        self.directory = directory
        self.gateways: dict[str, GatewayProcess] = {}
        self.killed: set[str] = set()

    def add(self, name: str, **sections: Any) -> GatewayProcess:
        """Start one more replica; it is not ready yet."""
        pools = [pool("default", self.sims.urls)]
        given = config((), pools=pools, state=self.state, replica=name, sync=self._sync) | sections
        self.gateways[name] = GatewayProcess(given, self.directory / name)
        return self.gateways[name]

    def wait_until_ready(self) -> None:
        """Wait until every replica is ready and sees every other replica."""
        for gateway in self.gateways.values():
            gateway.wait_until_ready()
        self.wait_until_seen(self.live())

    def wait_until_seen(self, replicas: set[str]) -> None:
        """Wait until each of these replicas sees exactly these, and Redis holds a lease of each and of no other."""
        wait_for(
            f"{sorted(replicas)} know each other",
            lambda: self.leases() == replicas and all(self.sees(name) == replicas for name in replicas),
        )

    def use(self, policy: str) -> None:
        """Swap the policy on all replicas."""
        first = next(iter(self.gateways.values()))
        assert first.control.put("/admin/pools/default/policy", json={"policy": policy}).status_code == 200
        wait_for("it is everywhere", lambda: all(self.policy(name)[0] == policy for name in self.live()))

    def policy(self, name: str) -> tuple[str, int]:
        """A replica's policy, and its generation."""
        shown = self.gateways[name].control.get("/admin/pools/default/policy").raise_for_status().json()
        return shown["policy"], shown["generation"]

    def live(self) -> set[str]:
        """The replicas that were not killed."""
        return {name for name in self.gateways if name not in self.killed}

    def sees(self, name: str) -> set[str]:
        """The replicas that this one sees, itself included."""
        return {each["id"] for each in self.status(name)["replicas"]}

    def status(self, name: str) -> dict[str, Any]:
        """A replica's /admin/state."""
        shown: dict[str, Any] = self.gateways[name].control.get("/admin/state").raise_for_status().json()
        return shown

    def view(self, name: str) -> dict[str, int]:
        """Requests in flight by pod over all replicas, in this replica's view."""
        return {pod["address"]: pod["inflight"] for pod in self.gateways[name].pods()}

    def truth(self) -> dict[str, int]:
        """Requests in flight by pod, as counted by the pods."""
        return {address: int(self.sims.state(address)["open_requests"]) for address in self.sims.addresses}

    def in_redis(self) -> dict[str, int]:
        """Requests in flight by pod in Redis, over all replicas that have a lease."""
        total = dict.fromkeys(self.sims.addresses, 0)
        for replica in self.leases():
            fields: dict[bytes, bytes] = self.link.hgetall(KEYS.inflight(replica))  # type: ignore[assignment]
            for pod, packed in fields.items():
                if pod != b"@":
                    numbers = MessageDecoder().numbers(packed)
                    assert numbers is not None
                    total[pod.decode()] = total.get(pod.decode(), 0) + numbers.requests
        return total

    def leases(self) -> set[str]:
        """The replicas with a lease in Redis."""
        members: list[bytes] = self.link.zrange(KEYS.leases, 0, -1)  # type: ignore[assignment]
        return {member.decode() for member in members}

    def kill(self, name: str) -> None:
        """kill -9."""
        self.gateways[name].signal(signal.SIGKILL)
        assert self.gateways[name].ended() == -signal.SIGKILL
        self.killed.add(name)

    def wait_until_all_agree(self, truth: Callable[[], Mapping[str, int]] | None = None) -> None:
        """Wait until pods, Redis and every live replica report the same numbers of requests in flight."""
        wanted = truth or self.truth

        def agreed() -> bool:
            said = [dict(wanted()), self.in_redis(), *(self.view(name) for name in sorted(self.live()))]
            return all(each == said[0] for each in said)

        wait_for("pods, Redis and replicas agree", agreed)

    def wait_until_empty(self) -> None:
        """Wait until no request is in flight on any pod or replica."""
        self.wait_until_all_agree(lambda: dict.fromkeys(self.sims.addresses, 0))

    def end(self) -> None:
        """Stop the replicas in order and assert that nothing of them stays."""
        for name in sorted(self.live()):
            self.gateways[name].settle()
        self.wait_until_empty()
        self.wait_until_seen(self.live())
        for name in sorted(self.live()):
            self.gateways[name].signal()
        for name in sorted(self.live()):
            assert self.gateways[name].ended() == 0, self.gateways[name].log.read_text()[-2000:]
            assert self.gateways[name].complaints() == []
        assert self.leases() == set()
        assert not [key for name in self.gateways if self.link.exists(key := KEYS.inflight(name))]

    def stop(self) -> None:
        """Stop all remaining processes."""
        for gateway in self.gateways.values():
            gateway.kill()
        self.link.close()


@contextmanager
def ground(
    directory: Path,
    replicas: int = 2,
    *sim_options: str,
    pods: int = 4,
    slowed: bool = False,
    sync: Mapping[str, float] = PATIENT_SYNC,
) -> Iterator[Ground]:
    """All processes, ready, for the block; then the assertions listed above. `slowed`: Redis is behind a SlowLink."""
    with ExitStack() as stack:
        server = RedisServer(directory)
        stack.callback(server.stop)
        stack.enter_context(many_files())
        slow = stack.enter_context(slow_link(server.port)) if slowed else None
        sims = stack.enter_context(sim_pods(pods, directory / "pods.log", *(sim_options or QUICK)))
        built = Ground(directory, sims, server, slow, sync)
        stack.callback(built.stop)
        for number in range(replicas):
            built.add(f"replica-{number}")
        built.wait_until_ready()
        yield built
        built.end()


@contextmanager
def many_files() -> Iterator[None]:
    """Raise the limit of open files for this process and its children, for thousands of connections."""
    soft, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(10_000, most)), most))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, most))


def faults(records: Sequence[Record]) -> list[tuple[str, str]]:
    """Replica and fault of each request without a whole answer."""
    return [(record.replica, record.fault) for record in records if record.fault]


def p99_s(records: Sequence[Record], began: float, ended: float) -> float:
    """99th percentile of the time to the answer's first byte, over requests that began in that interval."""
    return quantile(sorted(r.ttft_s for r in records if began <= r.started_at < ended and not r.fault), 0.99)


Property = Callable[[str, object], None]
"""pytest's record_property."""


def say(record_property: Property, what: str, number: float) -> None:
    """Add a number to the report; `-rP` prints it."""
    record_property(what, round(number, 4))
    print(f"{what}: {number:.4f}")  # noqa: T201


def cpu_s(ground: Ground) -> float:
    """CPU seconds that the replicas have used so far."""
    return procfs.read([gateway.pid for gateway in ground.gateways.values()]).cpu_s
