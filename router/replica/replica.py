"""The composition root: builds a replica from its settings, starts it, drains it. The only place that knows every
part; no part knows this file.
"""

from __future__ import annotations

import asyncio
import logging
import os
import random
import secrets
import socket
import time
from collections.abc import Callable, Collection
from functools import partial
from typing import NamedTuple

from router.address import parse_listen
from router.control.api import create_control
from router.control.server import ControlServer
from router.dataplane.admission import Admission
from router.dataplane.deps import GatewayDeps
from router.dataplane.dispatch import Dispatch
from router.dataplane.gateway import Gateway
from router.dataplane.http.deadlines import Deadlines, resolution_for
from router.dataplane.http.listener import Listener
from router.dataplane.http.upstream import Upstream
from router.dataplane.http.write_batcher import WriteBatcher
from router.dataplane.local_routes import LocalRoutes
from router.dataplane.prefix_feedback import PrefixFeedback
from router.dataplane.request.routes import Routes
from router.dataplane.request.targets import TargetResolver
from router.dataplane.wire_headers import WireHeaders
from router.lifecycle import Lifecycle, Phase, drain_sequence
from router.plugins.attach import AttachedPlugins
from router.policy.catalog import PolicyCatalog
from router.policy.circuit_breaker import PolicyCircuitBreaker
from router.policy.controller import PolicyController
from router.recording.recorder import Recorder
from router.replica.config_mapping import (
    guard_limits,
    health_config,
    pod_template,
    probe_config,
    request_limits_s,
    scrape_config,
    sync_config,
)
from router.replica.pod_registry import PodRegistry
from router.replica.readings import control_plane
from router.replica.state_listener import ReplicaStateListener
from router.replica.warmup import Warmup
from router.settings import Settings
from router.telemetry.metrics import Metrics
from router.trials.attach import trials_of
from schedulers import registry
from statesync.discovery.source import open_source
from statesync.engines.health import HealthTracker
from statesync.engines.prober import Prober
from statesync.engines.scraper import ScrapeListener, Scraper
from statesync.load.view import LoadView
from statesync.prefix.accuracy import PrefixAccuracy
from statesync.prefix.index import PrefixIndex
from statesync.store.open import open_store
from statesync.store.protocol import StateStore
from statesync.tasks import spawn

_log = logging.getLogger("turnout.replica")

SAFE_POLICY = "least_load"
"""Decides where a policy fails."""

PREFIX_SWEEP_S = 0.1
PREFIX_SWEEP_BLOCKS = 500
"""Blocks of forgotten pods cleaned at a time: 0.2 ms of the event loop."""

STRANGERS_S = 60.0
"""Pods that others know and this replica does not: it has so long, and at most twice that, to learn of them."""

HAND_OVER_LINGER_S = 6.0
"""Connections stay open so long after a hand-over, each until its next answer: longer than the 5 s for which httpx, and
so OpenAI's SDK, would use an idle one again, and so long enough that no request meets a closing connection."""

_RNG = partial(random.getrandbits, 64)


class Sockets(NamedTuple):
    """Bound sockets that somebody lends a replica to listen on."""

    inference: socket.socket
    control: socket.socket


class Replica:
    """One gateway: `start` it, `stop` asks it to go, `drain` lets it. Signals and the process are `process.py`'s."""

    def __init__(
        self,
        settings: Settings,
        *,
        sockets: Sockets | None = None,
        clock: Callable[[], float] = time.monotonic,
        rng: Callable[[], int] = _RNG,
    ) -> None:
        """Builds everything, opens nothing. Raises what a wrong setting raises; `turnout check` explains those.

        On `sockets` that it is lent, which others may serve already, it accepts only once it is ready.
        `clock` counts seconds, `rng` gives 64 random bits; others than these only where every run must be the same.
        """
        self.settings = settings
        self.clock = clock
        self._rng = rng
        self._sockets = sockets
        self.name = settings.replica or f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(3)}"
        self.metrics = Metrics()
        self.lifecycle = Lifecycle(self.clock)
        self.store: StateStore = open_store(settings.state, sync_config(settings))
        # Telling nobody would still cost 1.5 us a request.
        shared = self.store.shared
        tell, age_s = (self.store.announce, self.store.age_s) if shared else (None, None)
        self.view = LoadView(self.clock, tell, age_s, settings.labels)
        self.prefix = PrefixIndex(settings.prefix.max_bytes, settings.prefix.default_kv_tokens)
        self.plugins = AttachedPlugins(settings)
        self.catalog = PolicyCatalog(settings.policies, self.plugins.create)
        self.trials = trials_of(self.name, self.store, clock, lambda: self.policies, settings.trials)
        configured = {pool.name: pool.policy for pool in settings.pools}
        self.policies = PolicyController(self.store, configured, self.catalog.create, self.trials.make)
        self.guard = self._guard()
        self.routes = Routes(settings.pools, settings.default_pool, settings.timeouts)
        self.deadlines = Deadlines(self.clock, resolution_for(*request_limits_s(settings)))
        self.admission = Admission(settings.limits)
        self.write_batcher = WriteBatcher(self.admission.active)
        self.upstream = Upstream(self.deadlines, write_batcher=self.write_batcher)
        self.prefix_accuracy = PrefixAccuracy(self.prefix.set_trust)
        self.pod_registry = PodRegistry(
            self.view, self.prefix, self.routes, self.upstream, self.metrics, self.prefix_accuracy
        )
        self.health = self.pod_registry.health = HealthTracker(
            health_config(settings.health),
            self.pod_registry.on_health,
            fallbacks={pool.name: pool.fallback for pool in settings.pools if pool.fallback},
        )
        self.prober = self.pod_registry.prober = Prober(probe_config(settings.health), self.health, clock=clock)
        self.scraper = self.pod_registry.scraper = self._scraper()
        self.state_listener = ReplicaStateListener(
            self.view, self.prefix, self.pod_registry, self.scraper, self.policies
        )
        self.warmup = self._warmup()
        self.recorder = Recorder(settings.recording) if settings.recording.path else None
        self.gateway = self._gateway()
        refused = self.gateway.completion.refused
        self.listener = Listener(
            self.gateway, self.deadlines, settings.limits, settings.timeouts, refused, self.write_batcher
        )
        self.control = ControlServer(
            create_control(control_plane(self)), parse_listen(settings.control.listen), sockets and sockets.control
        )
        self.port = 0
        self.hurry = asyncio.Event()
        self.stop_asked = asyncio.Event()
        self.asked_to_drain: Callable[[], None] = self.stop
        """What an operator's drain does."""
        self._background: list[asyncio.Task[None]] = []
        self.lifecycle.listen(lambda step: _log.info("replica %s: %s -> %s", self.name, step.before, step.after))

    # Parts

    def _scraper(self) -> Scraper:
        members = self.pod_registry
        return Scraper(
            scrape_config(self.settings.scrape),
            ScrapeListener(members.on_report, members.on_models, members.on_restart),
            self.store,
            clock=self.clock,
        )

    def _warmup(self) -> Warmup:
        return Warmup(
            store=self.store,
            listener=self.state_listener,
            replica=self.name,
            pools=[pool.name for pool in self.settings.pools],
            pod_registry=self.pod_registry,
            prober=self.prober,
            lifecycle=self.lifecycle,
        )

    def _guard(self) -> PolicyCircuitBreaker:
        limits = guard_limits(self.settings.policy_guard)
        guard = PolicyCircuitBreaker(registry.create(SAFE_POLICY), self.metrics, self.clock, limits)
        guard.listen(lambda pool, scheduler, why: self.policies.take_out(pool, scheduler, guard.safe, why))
        guard.listen(self.trials.policy_taken_out)
        guard.listen_to_strikes(self.trials.policy_failed)
        return guard

    def _gateway(self) -> Gateway:
        by_name = self.catalog.by_name()
        self.plugins.join(self.policies, self.catalog.create, by_name)
        identity = WireHeaders(self.name, secrets.randbits(48), self.routes.clusters)
        return Gateway(
            GatewayDeps(
                settings=self.settings,
                clock=self.clock,
                lifecycle=self.lifecycle,
                local=LocalRoutes(self.lifecycle, self.routes, identity, int(time.time())),
                routes=self.routes,
                admission=self.admission,
                dispatch=Dispatch(
                    self.view,
                    self.prefix,
                    self.policies.current,
                    self.guard,
                    by_name,
                    self.store.placed,
                    self._rng,
                    self.trials.running,
                    self.plugins.samples,
                ),
                upstream=self.upstream,
                view=self.view,
                identity=identity,
                metrics=self.metrics,
                outcome=self.health.outcome,
                tap=self.recorder.tap if self.recorder is not None else None,
                learn=PrefixFeedback(self.prefix_accuracy).learn,
                targets=TargetResolver(self.settings.targets),
            )
        )

    # Life

    async def start(self) -> None:
        """Listen, warm up, become ready; on lent sockets in the order warm up, listen.

        Raises OSError when a port is taken, StateError when a live replica has this one's name.
        """
        self.deadlines.start()
        if self.recorder is not None:
            self.recorder.start()
        if self._sockets is None:
            await self._open_ports()
        self.lifecycle.enter(Phase.WARMING)
        self._open_pools()
        self._background += [
            spawn(self.prober.run(), "prober"),
            spawn(self.scraper.run(), "scraper"),
            spawn(self._sweep_prefixes(), "prefix-sweep"),
            spawn(self.trials.run(), "trials"),
            spawn(self.plugins.run(), "plugins"),
        ]
        await self.warmup.run(self.settings.warmup_timeout_s)
        if not self.stop_asked.is_set():
            self.lifecycle.enter(Phase.READY)
            if self._sockets is not None:
                await self._open_ports()

    async def _open_ports(self) -> None:
        listen = parse_listen(self.settings.listen)
        self.port = await self.listener.start(listen.host, listen.port, self._sockets and self._sockets.inference)
        await self.control.start()
        _log.info(
            "replica %s: inference on %s:%d, control on %s", self.name, listen.host, self.port, self.control.address
        )

    def _open_pools(self) -> None:
        for pool in self.settings.pools:
            self.view.set_pods(pool.name, ())
            source = open_source(
                pool.pods,
                pool.discovery.source,
                interval_s=pool.discovery.interval_s,
                nameservers=pool.discovery.nameservers,
                template=pod_template(pool),
            )
            self._background.append(
                spawn(source.run(partial(self.pod_registry.on_pods, pool.name)), f"discovery-{pool.name}")
            )

    async def _sweep_prefixes(self) -> None:
        strangers_at = self.clock() + STRANGERS_S
        while True:
            self.prefix.sweep(PREFIX_SWEEP_BLOCKS)
            if self.clock() >= strangers_at:
                strangers_at = self.clock() + STRANGERS_S
                self.pod_registry.forget_strangers()
            await asyncio.sleep(PREFIX_SWEEP_S)

    def stop(self) -> None:
        """Begin to drain; asked again, end at once."""
        if self.stop_asked.is_set():
            self.hurry.set()
        self.stop_asked.set()

    def hand_over(self) -> None:
        """A successor accepts on the same sockets: stop accepting now, finish what is here, end."""
        if not self.stop_asked.is_set():
            self.lifecycle.handed_over = True
            self.stop_asked.set()

    async def drain(self) -> None:
        """From serving to closed: settle, stop accepting, finish what is in flight, let go of everything."""
        report = await drain_sequence(
            self.lifecycle,
            self.settings.drain,
            stop_accepting=self._stop_accepting,
            inflight=lambda: len(self.gateway.deps.admission.active),
            cut_off=self.gateway.cut_off,
            hurry=self.hurry,
            clock=self.clock,
        )
        _log.info("drained in %.1f s, %d requests cut", report.took_s, report.cut)
        await self.close()

    async def _stop_accepting(self) -> None:
        if self.lifecycle.handed_over:
            self.listener.stop_accepting()
            self.control.stop_accepting()
            await asyncio.sleep(0.05)  # who was accepted just now becomes an edge
            await self._linger_while(lambda: self.listener.edges, HAND_OVER_LINGER_S)
            # A client that has just connected may be slow to send; closing now would lose its request.
            self.listener.stop(spare_new=True)
            await self._linger_while(self.listener.new, self.settings.timeouts.client_header_s)
        idle = sum(edge.idle for edge in self.listener.edges)
        self.listener.stop()
        _log.info("replica %s: listens no more, %d idle connections closed", self.name, idle)

    async def _linger_while(self, left: Callable[[], Collection[object]], most_s: float) -> None:
        end = self.clock() + most_s
        while left() and self.clock() < end and not self.hurry.is_set():  # noqa: ASYNC110  no event
            await asyncio.sleep(0.01)

    async def close(self) -> None:
        """Let go of everything, at once."""
        self.listener.stop()
        await self.warmup.stop()
        self.policies.stop()
        for task in self._background:
            task.cancel()
        await asyncio.gather(*self._background, return_exceptions=True)
        await self._flush_clients()
        self.upstream.close()
        if self.recorder is not None:
            await asyncio.to_thread(self.recorder.stop)
        # The control port goes last: until then it shows how far the drain is.
        before = self.clock()
        await self.store.aclose()
        _log.info("replica %s: state flushed and lease given back in %.3f s", self.name, self.clock() - before)
        await self.control.stop()
        self.deadlines.stop()

    async def _flush_clients(self) -> None:
        """Answers already written get a moment to reach their clients."""
        end = self.clock() + 1.0
        while self.listener.edges and self.clock() < end:  # noqa: ASYNC110  a set has no event; this is the way out
            await asyncio.sleep(0.01)
        self.listener.abort()
