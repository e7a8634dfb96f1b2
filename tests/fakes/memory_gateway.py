"""A gateway of real components between a test's clients and pods. Only sockets, clock and random bits are fakes.

`with Rig() as rig:` ends with a check for leaks: when all clients are gone, nothing may be held for a request.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import count
from types import TracebackType
from typing import Self, cast

from router.dataplane.admission import Admission
from router.dataplane.deps import GatewayDeps
from router.dataplane.disaggregation import PairStage
from router.dataplane.dispatch import Dispatch
from router.dataplane.fair_share import FairShares, TenantWeight
from router.dataplane.gateway import Gateway
from router.dataplane.http.cors import AllowedOrigins
from router.dataplane.http.deadlines import Deadlines
from router.dataplane.http.forwarded import TrustedProxies
from router.dataplane.http.listener import Listener
from router.dataplane.http.upstream import Upstream
from router.dataplane.http.write_batcher import MIN_ACTIVE, WriteBatcher
from router.dataplane.local_routes import LocalRoutes
from router.dataplane.pair_dispatch import pair_dispatch, splits_of
from router.dataplane.prefix_feedback import PrefixFeedback
from router.dataplane.request.paths import ForwardedPaths
from router.dataplane.request.routes import Routes
from router.dataplane.request.session_key import SessionKeys
from router.dataplane.request.targets import TargetResolver
from router.dataplane.session_homes import SessionHomes
from router.dataplane.state_owners import StateOwners
from router.dataplane.target_list import TargetList
from router.dataplane.tenant_shares import TenantShares
from router.dataplane.tracer import Tracer
from router.dataplane.wire_headers import WireHeaders
from router.lifecycle import Lifecycle, Phase
from router.policy.catalog import PolicyCatalog
from router.policy.circuit_breaker import PolicyCircuitBreaker
from router.policy.controller import PolicyController
from router.policy_settings import PolicyGuard
from router.replica.config_mapping import pod_template, pool_access, session_pools
from router.replica.observers import Observers
from router.replica.pod_registry import PodRegistry
from router.replica.pod_updates import PodUpdates
from router.settings import (
    HOLD,
    Cors,
    Limits,
    Logging,
    PathSettings,
    PolicySpec,
    Pool,
    Retries,
    Sessions,
    Settings,
    Timeouts,
)
from router.settings import Targets as TargetSettings
from router.telemetry.metrics import Metrics
from router.telemetry.request_trace import RequestOutcome, RequestTrace
from router.trials.trials import Trials
from schedulers import registry
from schedulers.protocols import Scheduler
from schedulers.types import Pod, PodId, PodLoad
from statesync.discovery.ranks import by_rank
from statesync.engines.health import HealthTracker
from statesync.engines.model_list import ModelCard
from statesync.engines.prober import Prober
from statesync.engines.scraper import ScrapeListener, Scraper
from statesync.load.view import LoadView
from statesync.prefix.accuracy import PrefixAccuracy
from statesync.prefix.index import PrefixIndex
from statesync.settings import Health, Scrape
from statesync.store.memory import MemoryStore
from tests.fakes.memory_client_and_pods import CHAT, Client, Net, PodEnd, post
from tests.fakes.memory_transport import Wire


def one_pool(policy: str = "round_robin", **fields: object) -> Pool:
    """The pool `main`, which serves the model `m`."""
    return Pool(name="main", models=["m"], policy=PolicySpec(name=policy), **fields)  # type: ignore[arg-type]


class Rig:
    """The gateway under test, its network of pods and its clients."""

    def __init__(
        self,
        pool: Pool | None = None,
        *,
        pods: int | Mapping[str, int] = 2,
        pools: Sequence[Pool] = (),
        default_pool: str = "",
        timeouts: Timeouts | None = None,
        limits: Limits | None = None,
        retries: Retries | None = None,
        targets: TargetSettings | None = None,
        policies: Mapping[str, PolicySpec] | None = None,
        sessions: Sessions | None = None,
        logging_section: Logging | None = None,
        paths: PathSettings | None = None,
        cors: Sequence[str] = (),
        trusted_proxies: Sequence[str] = (),
        create: Callable[[str, Mapping[str, object]], Scheduler] | None = None,
        batched: bool = True,
        expect_errors: bool = False,
        state: str = "",
        weights: Mapping[str, TenantWeight] | None = None,
        sample_ratio: float | None = None,
        policy_guard: PolicyGuard | None = None,
    ) -> None:
        """`state`: the name of a memory store that several gateways share. `weights`: those of the tenants, by which
        queues are fair. `sample_ratio`: requests are traced; see `traced`."""
        """`batched`: writes go out at the end of the loop's turn, as with many requests in flight."""
        every = list(pools) or [pool or one_pool()]
        self.settings = Settings(
            pools=every,
            default_pool=default_pool,
            timeouts=timeouts or Timeouts(),
            limits=limits or Limits(),
            retries=retries or Retries(),
            targets=targets or TargetSettings(),
            policies=dict(policies or {}),
            sessions=sessions or Sessions(),
            logging=logging_section or Logging(),
            paths=paths or PathSettings(),
            cors=Cors(allow_origins=list(cors)),
            trusted_proxies=list(trusted_proxies),
            policy_guard=policy_guard or PolicyGuard(),
        )
        self.wire = Wire()
        self.net = Net(self.wire)
        self.clients: list[Client] = []
        self.errors = _Errors()
        self._expect_errors = expect_errors
        self._state = state
        self.traced: list[tuple[RequestTrace, RequestOutcome]] = []
        """What was collected of the requests that were sampled and have ended."""
        self._sample_ratio = sample_ratio
        self._batched = batched
        self.shares = FairShares(weights) if weights else None
        self.catalog = PolicyCatalog(self.settings.policies)
        self._create = create or self.catalog.create
        self._build()
        counts = {each.name: pods for each in every} if isinstance(pods, int) else pods
        self._fill(counts)

    def _build(self) -> None:
        settings, clock = self.settings, self.wire.clock
        self.lifecycle = Lifecycle(clock)
        self.metrics = Metrics()
        self.view = LoadView(clock)
        self.prefix = PrefixIndex(settings.prefix.max_bytes, settings.prefix.default_kv_tokens)
        self.routes = Routes(settings.pools, settings.default_pool, settings.timeouts)
        self.deadlines = Deadlines(clock, 0.1)
        self.admission = Admission(settings.limits, clock, self.shares, self.view.room)
        self._write_batcher = WriteBatcher(range(MIN_ACTIVE) if self._batched else self.admission.active)
        self.upstream = Upstream(self.deadlines, self.net.dial, self._write_batcher)
        self.prefix_accuracy = PrefixAccuracy(self.prefix.set_trust)
        self.updates = updates = PodUpdates(
            self.view, self.prefix, self.prefix_accuracy, self.routes, self.upstream, self.metrics
        )
        fallbacks = {pool.name: pool.fallback for pool in settings.pools}
        self.health = HealthTracker(
            Health(), updates.on_health, rng=lambda: 0.0, fallbacks=fallbacks, on_kept=updates.on_kept
        )
        prober = Prober(Health(), self.health, clock=clock)
        scrapes = ScrapeListener(updates.on_report, updates.on_restart)
        scraper = Scraper(Scrape(), scrapes, MemoryStore(), clock=clock)
        held = [pool.name for pool in settings.pools if pool.affinity == HOLD]
        self.homes = SessionHomes(self.view, clock, held, self.routes.lacks) if held else None
        self.pod_registry = PodRegistry(self.view, updates, self.routes, self.health, prober, scraper, homes=self.homes)
        self.rebuild(self._deps())
        self.lifecycle.enter(Phase.WARMING)
        self.lifecycle.enter(Phase.READY)

    def rebuild(self, deps: GatewayDeps) -> None:
        """Make the gateway from these components; for a test that replaces some of them before the first client."""
        self.gateway = Gateway(deps)
        self.updates.on_probe_failed = self.gateway.pods_gone
        self.listener = Listener(
            self.gateway,
            self.deadlines,
            self.settings.limits,
            self.settings.timeouts,
            self.gateway.completion.refused,
            self._write_batcher,
            keep_peers=self.settings.logging.access,
            admit=self.gateway.admit if deps.access is not None else None,
        )

    def _deps(self) -> GatewayDeps:
        settings, clock = self.settings, self.wire.clock
        self.store = store = MemoryStore(self._state)
        self.trials = Trials("rig", clock)
        configured = {pool.name: pool.policy for pool in settings.pools}
        self.policies = PolicyController(store, configured, self._create, self.trials.make)
        safe, take_out = registry.create("least_load"), self.policies.take_out
        on_taken_out = [lambda pool, scheduler, why: take_out(pool, scheduler, safe, why)]
        self.guard = PolicyCircuitBreaker(safe, self.metrics, clock, settings.policy_guard, on_taken_out=on_taken_out)
        cors = AllowedOrigins(settings.cors.allow_origins) if settings.cors.allow_origins else None
        proxies = TrustedProxies(settings.trusted_proxies)
        accesses = {pool.name: pool_access(pool, settings, {}) for pool in settings.pools}
        identity = WireHeaders("rig", 0xABC, self.routes.clusters, cors, proxies, accesses)
        paths = ForwardedPaths(settings.paths.forward)
        rng = count(1)
        tracer = self._tracer()
        live = self.policies.live_policies
        live.read_sessions_of(session_pools(settings))
        splits = splits_of(settings.pools)
        make: Callable[..., Dispatch] = pair_dispatch(splits) if splits else Dispatch
        dispatch = make(
            self.view,
            self.prefix,
            live,
            self.guard,
            self.catalog.by_name(),
            None,
            lambda: next(rng),
            self.trials.running,
            accuracy=self.prefix_accuracy,
            sessions=SessionKeys(settings.sessions),
            session_pools=live.session_pools,
        )
        return GatewayDeps(
            settings=settings,
            clock=clock,
            lifecycle=self.lifecycle,
            local=LocalRoutes(
                self.lifecycle,
                self.routes,
                identity,
                1_700_000_000,
                paths,
                cors,
                TargetList(self.routes, TargetResolver(settings.targets), self.view).body,
            ),
            routes=self.routes,
            admission=self.admission,
            shares=TenantShares(self.shares) if self.shares is not None else None,
            dispatch=dispatch,
            upstream=self.upstream,
            view=self.view,
            identity=identity,
            metrics=self.metrics,
            outcome=self.updates.ends_of(self.health),
            unsettled=self.health.unsettled,
            tap=Observers(None, tracer, None).tap,
            ended=tracer.ended if tracer else None,
            learn=PrefixFeedback(self.prefix_accuracy).learn,
            targets=TargetResolver(settings.targets),
            owners=StateOwners(self.store),
            homes=self.homes,
            pairs=PairStage if splits else None,
        )

    def _tracer(self) -> Tracer | None:
        if self._sample_ratio is None:
            return None
        bits = random.Random(1)
        return Tracer(
            lambda trace, ended: self.traced.append((trace, ended.read())),
            self._sample_ratio,
            self.wire.clock,
            lambda: 1_700_000_000.0,
            lambda: bits.getrandbits(64),
            self.view,
        )

    def _fill(self, counts: Mapping[str, int]) -> None:
        for at, pool in enumerate(self.settings.pools):
            addresses = [f"10.0.{at}.{number}:8000" for number in range(1, counts.get(pool.name, 0) + 1)]
            limit = pod_template(pool).max_inflight
            found = by_rank(partial(self.pod_registry.on_pods, pool.name), pool.ranks)
            found([Pod(PodId(a), a, max_inflight=limit) for a in addresses])

    # Actions of a test

    def lists(self, number: int, *cards: str | dict[str, object], pool: str = "main") -> None:
        """The pod of this number, from 1, lists these models, each a name or a card."""
        pod = [status.pod.id for status in self.view.statuses(pool)][number - 1]
        whole = [{"id": card} if isinstance(card, str) else card for card in cards]
        self.updates.on_models(pod, {str(card["id"]): ModelCard(card) for card in whole})

    def client(self) -> Client:
        """A new connected client."""
        self.clients.append(Client(self.wire, cast(asyncio.Protocol, self.listener.connect())))
        return self.clients[-1]

    def asks(self, body: bytes = CHAT, *headers: str) -> Client:
        """A new client that has sent a request."""
        return self.client().sends(post(body, *headers))

    def asked(self) -> PodEnd:
        """The pod connection with the oldest unanswered request."""
        return next(end for end in self.net.made if not end.transport.ending and len(end.requests) > end.answered)

    def asked_before(self) -> PodEnd:
        """The pod connection on which the test answered last."""
        return next(end for end in reversed(self.net.made) if not end.transport.ending and end.answered)

    def load(self, pod: PodEnd) -> PodLoad:
        """The view's load of a pod."""
        return self.view.status(PodId(pod.address)).load

    def nobody_asked(self) -> bool:
        """Whether no open pod connection has an unanswered request."""
        return all(end.transport.ending or len(end.requests) <= end.answered for end in self.net.made)

    def passes(self, seconds: float) -> None:
        """Advance the time, then check the deadlines."""
        self.wire.clock.now += seconds
        self.wire.do(self.deadlines.look)

    # Assertions

    @property
    def inflight(self) -> int:
        """Requests and tokens in flight that the view counts on pods, summed."""
        loads = [status.load for status in self.view.statuses()]
        return sum(load.inflight + load.inflight_tokens + load.pending_prefill_tokens for load in loads)

    def assert_clean(self) -> None:
        """Assert that nothing is held for a request: no charge, no place in the gate, no connection that is not idle or
        a client's."""
        assert self.inflight == 0, self.view.statuses()
        assert not self.admission.active
        assert self.admission.queued == 0
        if self.shares is not None:
            pools = [self.shares.pool(pool.name) for pool in self.gateway.deps.settings.pools]
            assert not any(each.open or each.prefilling for pool in pools for each in pool.counters.values())
        idle = [connection for stack in self.upstream.idle.values() for connection in stack]
        assert self.upstream.open == len(idle)
        watched: set[object] = {*self.listener.edges, *idle}
        assert set(self.deadlines.members) == watched
        for connection in idle:
            assert connection.receiver is None
            assert connection.transport is not None
            assert connection.transport.is_reading()
        assert all(self.upstream.idle.values()), "an empty stack was kept"

    def __enter__(self) -> Self:
        logging.getLogger("turnout").addHandler(self.errors)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        try:
            if kind is None:
                for client in self.clients:
                    client.leaves()
                assert not self.wire.crashes
                assert not self.listener.edges
                assert self.listener.budget.used == 0
                self.assert_clean()
                assert bool(self.errors.messages) == self._expect_errors, self.errors.messages
        finally:
            logging.getLogger("turnout").removeHandler(self.errors)
            self.wire.do(self.upstream.close)
            self.wire.close()


class _Errors(logging.Handler):
    """Keeps the messages logged as errors."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.messages.append(record.getMessage())
