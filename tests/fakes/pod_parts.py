"""A pod registry and the components that follow it, for tests of changes to pods. All are real, none is started."""

from __future__ import annotations

import asyncio

from router.dataplane.http.deadlines import Deadlines
from router.dataplane.http.upstream import Upstream
from router.dataplane.http.upstream_connection import UpstreamConnection
from router.dataplane.request.routes import Routes
from router.replica.pod_registry import PodRegistry
from router.replica.pod_updates import PodUpdates
from router.settings import Pool, Timeouts
from router.telemetry.metrics import Metrics
from schedulers.types import Pod, PodId
from statesync.engines.health import HealthTracker
from statesync.engines.model_list import ModelCard
from statesync.engines.prober import Prober
from statesync.engines.scraper import ScrapeListener, Scraper
from statesync.errors import NoRoutablePod
from statesync.load.view import LoadView
from statesync.prefix.accuracy import PrefixAccuracy
from statesync.prefix.index import PrefixIndex
from statesync.settings import Health, Scrape
from statesync.store.memory import MemoryStore


def pod(number: int) -> Pod:
    return Pod(PodId(f"p{number}"), f"10.0.0.{number}:80")


A, B, C = pod(1), pod(2), pod(3)


class PodFixture:
    """A pool whose models are discovered (`learns`) and one whose models are configured (`knows`); time is `now`."""

    def __init__(self) -> None:
        self.now = 100.0
        self.view = LoadView(self.clock)
        self.prefix = PrefixIndex(1 << 24, 100_000)
        self.prefix_accuracy = PrefixAccuracy(self.prefix.set_trust)
        self.routes = Routes([Pool(name="learns"), Pool(name="knows", models=["k"])], "", Timeouts())
        self.upstream = Upstream(Deadlines(self.clock, 0.1))
        self.metrics = Metrics()
        self.updates = PodUpdates(
            self.view, self.prefix, self.prefix_accuracy, self.routes, self.upstream, self.metrics
        )
        self.health = HealthTracker(
            Health(eject_failures=1), self.updates.on_health, rng=lambda: 0.0, on_kept=self.updates.on_kept
        )
        prober = Prober(Health(), self.health, clock=self.clock)
        listener = ScrapeListener(self.updates.on_report, self.updates.on_restart)
        scraper = Scraper(Scrape(), listener, MemoryStore(), clock=self.clock)
        self.registry = PodRegistry(self.view, self.updates, self.routes, self.health, prober, scraper)

    def clock(self) -> float:
        return self.now

    def lists(self, of: Pod, *models: str) -> None:
        """The pod lists these models."""
        self.updates.on_models(of.id, {model: ModelCard({"id": model}) for model in models})

    def idle_connection(self, to: Pod) -> None:
        self.upstream.park(UpstreamConnection(self.upstream, to.address))

    async def arrived(self, pool: str) -> None:
        """Wait until the registry has all of the pool's pods."""
        while pool not in self.registry.known:  # noqa: ASYNC110  it takes turns of the loop, and has no event
            await asyncio.sleep(0)

    def routable(self, pool: str) -> list[PodId]:
        try:
            return [each.id for each, _ in self.view.snapshot(pool).candidates]
        except NoRoutablePod:
            return []
