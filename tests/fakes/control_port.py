"""A control port over real components, on loopback, for the duration of a test."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import Protocol

import httpx
import msgspec

from router.address import ListenAddress
from router.cli.main import main
from router.control.api import create_control
from router.control.audit import AuditLog
from router.control.plane import ControlPlane, LiveSources
from router.control.server import ControlServer
from router.control.tokens import ControlTokens
from router.lifecycle import Lifecycle, Phase
from router.plugins.samples import Samples
from router.policy.controller import PolicyController
from router.settings import Control, PolicySpec, Pool, Settings
from router.telemetry.collector import Readings
from router.telemetry.exposition import Exposition
from router.telemetry.metrics import Metrics
from schedulers.registry import create
from schedulers.types import Pod, PodId, RequestInfo
from statesync.load.view import LoadView
from statesync.prefix.accuracy import PrefixAccuracy
from statesync.store.memory import MemoryStore
from statesync.types import EngineReport, PrefixPage

POD = PodId("127.0.0.1:8001")
OTHER_POD = PodId("127.0.0.1:8002")


class NoReplicas:
    """A listener of a replica without peers."""

    def replica_inflight(self, *_: object) -> None: ...

    def replica_gone(self, *_: object) -> None: ...

    def placed_elsewhere(self, *_: object) -> None: ...

    def forgotten_elsewhere(self, *_: object) -> None: ...
    def models_changed_elsewhere(self, *_: object) -> None: ...
    def pods_elsewhere(self, *_: object) -> None: ...
    def served_elsewhere(self, *_: object) -> None: ...

    def reported_elsewhere(self, *_: object) -> None: ...

    def checkpoint(self) -> Iterable[PrefixPage]:
        return ()

    def restored(self, *_: object) -> None: ...

    def policy_changed(self, *_: object) -> None: ...


class Replica:
    """The real components behind a control port; the clock is fixed at 100 s."""

    def __init__(self, token: str = "", control: Control | None = None) -> None:
        self.now = 100.0
        self.wall = 1_700_000_000.0
        self.metrics = Metrics()
        self.store = MemoryStore()
        self.view = LoadView(self.clock, self.store.announce)
        self.view.set_pods("default", [Pod(POD, str(POD), frozenset({"m"})), Pod(OTHER_POD, str(OTHER_POD))])
        self.policies = PolicyController(self.store, {"default": PolicySpec(name="p2c")}, create)
        self.lifecycle = Lifecycle(self.clock)
        self.drains = 0
        self.samples: Samples | None = None
        self.accuracy = PrefixAccuracy(lambda *_: None)
        control = control or Control(token=token)
        self.audit = AuditLog(control, "r-1", wall=lambda: self.wall, clock=self.clock) if control.audit_file else None
        self.plane = ControlPlane(
            settings=Settings(pools=[Pool(name="default", aliases={"alias": "m"})], control=control),
            tokens=ControlTokens(control, {"TOKEN": "from the environment"}, lambda: self.wall),
            audit=self.audit,
            view=self.view,
            store=self.store,
            policies=self.policies,
            lifecycle=self.lifecycle,
            render_metrics=self._exposition().render,
            connections=lambda: 7,
            active=lambda: 2,
            pods_scraped=lambda: 1,
            waits_for=lambda: ["rain"],
            drain=self.begin_drain,
            clock=self.clock,
            started_at=1_700_000_000.0,
            replica="r-1",
            version="1.2.3",
            live=LiveSources(
                metrics=self.metrics,
                accuracy=self.accuracy.pods,
                waiting=lambda: 3,
                policy_names=lambda: ["p2c", "least_load"],
                decider=lambda pool, name: self.policies.live(pool).scheduler,
                open_samples=self.open_samples,
                close_samples=self.close_samples,
            ),
        )

    def open_samples(self) -> Samples:
        self.samples = Samples()
        return self.samples

    def close_samples(self) -> None:
        self.samples = None

    def clock(self) -> float:
        return self.now

    def begin_drain(self) -> None:
        self.drains += 1
        self.lifecycle.enter(Phase.SETTLING)

    def ready(self) -> None:
        self.lifecycle.enter(Phase.WARMING)
        self.lifecycle.enter(Phase.READY)

    def busy(self) -> None:
        """A request in flight on the first pod, and a report of its engine."""
        self.view.reserve(POD, self.request())
        self.view.report(POD, EngineReport(queued=3, running=4, kv_usage=0.5))

    def request(self) -> RequestInfo:
        """A request as policies see it."""
        return RequestInfo("r", "m", 100, 50, self.now, 1, 1)

    def _exposition(self) -> Exposition:
        readings = Readings(
            pods=self.view.statuses,
            view_age_s=self.store.age_s,
            replicas=lambda: len(self.store.replicas()),
            prefix_index_bytes=lambda: 0,
            prefix_index_blocks=lambda: 0,
            prefix_truth=dict,
            client_connections=lambda: 7,
            waiting=lambda: 2,
            phase=lambda: self.lifecycle.phase,
            cold=lambda: self.lifecycle.cold,
            phase_s=self.lifecycle.lasted_s,
            active=lambda: 2,
            state=self.store.health,
            pods_scraped=lambda: 1,
            unseen=self.view.unseen_by_pool,
            policies=lambda: {pool: (each.name, each.generation) for pool, each in self.policies.records.items()},
            policy_digests=dict,
            version="1.2.3",
            replica="r-1",
        )
        return Exposition(self.metrics, readings)


Talk = Callable[[httpx.AsyncClient], Awaitable[None]]


def talk_to(replica: Replica, talk: Talk, **headers: str) -> None:
    """Run `talk` with a client connected to the replica's real control port."""

    async def run() -> None:
        await replica.store.start("r-1", NoReplicas())
        server = ControlServer(create_control(replica.plane), ListenAddress("127.0.0.1", 0))
        await server.start()
        try:
            url = f"http://{server.address}"
            async with httpx.AsyncClient(base_url=url, headers=headers, trust_env=False, verify=False) as client:
                await talk(client)
        finally:
            await server.stop()
            await replica.store.aclose()

    asyncio.run(run())


class Run(Protocol):
    """Runs a command and returns its exit code."""

    def __call__(self, *argv: str) -> int: ...


def commands(replica: Replica, script: Callable[[Run], None]) -> None:
    """Run `script` in a thread beside the replica's event loop; it runs `turnout ARGV --control <the replica's>`."""

    async def talk(client: httpx.AsyncClient) -> None:
        await asyncio.to_thread(script, lambda *argv: main([*argv, "--control", str(client.base_url)]))

    talk_to(replica, talk)


def command(replica: Replica, *argv: str) -> int:
    """The exit code of one command."""
    codes: list[int] = []
    commands(replica, lambda run: codes.append(run(*argv)))
    return codes[0]


def error_of(answer: httpx.Response) -> dict[str, object]:
    """The OpenAI-shaped error of an answer."""
    decoded = msgspec.json.decode(answer.content, type=dict[str, dict[str, object]])
    assert list(decoded) == ["error"]
    assert set(decoded["error"]) == {"message", "type", "param", "code"}
    assert answer.headers["x-request-id"]
    return decoded["error"]
