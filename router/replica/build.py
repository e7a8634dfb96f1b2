"""The composition root: builds a replica's components from its settings, each after those it needs. The only place that
knows every component; no component knows this file. Nothing is opened or started here.
"""

from __future__ import annotations

import os
import random
import secrets
import socket
import time
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Final

from router.access.limit_sharing import LimitSharing
from router.access.limits import LimitRegistry
from router.access.sources import AccessSources, open_access
from router.control.parts import ControlParts
from router.dataplane.admission import Admission
from router.dataplane.deps import GatewayDeps, PairSender
from router.dataplane.dispatch import Dispatch
from router.dataplane.fair_share import FairShares
from router.dataplane.gateway import Gateway
from router.dataplane.grpc import open_grpc
from router.dataplane.http.cors import AllowedOrigins
from router.dataplane.http.deadlines import Deadlines, resolution_for
from router.dataplane.http.listener import Listener
from router.dataplane.http.upstream import Dial, Upstream
from router.dataplane.http.write_batcher import WriteBatcher
from router.dataplane.local_routes import LocalRoutes
from router.dataplane.request.paths import ForwardedPaths
from router.dataplane.request.routes import Routes
from router.dataplane.request.session_key import SessionKeys
from router.dataplane.request.targets import TargetResolver
from router.dataplane.session_homes import SessionHomes
from router.dataplane.state_owners import StateOwners
from router.dataplane.target_list import TargetList
from router.dataplane.tenant_limits import TenantLimits
from router.dataplane.tenant_shares import TenantShares
from router.dataplane.wire_headers import WireHeaders
from router.lifecycle import Lifecycle
from router.plugins.registry import PluginRegistry
from router.plugins.samples import Samples
from router.plugins.watchdog import create_watched
from router.plugins.watcher import PluginWatcher, load_present
from router.policy.catalog import PolicyCatalog
from router.policy.circuit_breaker import PolicyCircuitBreaker
from router.policy.controller import PolicyController
from router.policy.model import ChangeOptions
from router.policy.offers import PluginOffers
from router.replica.config_mapping import (
    pool_access,
    request_limits_s,
    session_pools,
)
from router.replica.kv_events import open_feedback, open_index, open_reader
from router.replica.observers import open_observers
from router.replica.parts import (
    Components,
    CoreParts,
    GatewayParts,
    NetworkParts,
    PodParts,
    PolicyParts,
    StateParts,
)
from router.replica.pod_registry import PodFollower, PodRegistry
from router.replica.pod_updates import PodUpdates
from router.replica.ports import PortParts, read_ports, retire_on_change
from router.replica.state_listener import ReplicaStateListener
from router.replica.streams import open_streams
from router.replica.warmup import Warmup
from router.settings import HOLD, LLM, Settings
from router.telemetry.metrics import TTFT_BOUNDS_S, Metrics
from router.trials.fleet import PoolHistory
from router.trials.monitor import EndCanary, TrialMonitor
from router.trials.trials import Trials
from schedulers import registry
from schedulers.types import PodId
from statesync.engines.access import Accesses
from statesync.engines.health import HealthTracker
from statesync.engines.model_reader import ModelReader
from statesync.engines.prober import Prober
from statesync.engines.scraper import ScrapeListener, Scraper
from statesync.load.view import LoadView
from statesync.prefix.accuracy import PrefixAccuracy
from statesync.store.lineage import digest
from statesync.store.open import open_store
from statesync.store.protocol import PolicyRecord, StateStore

SAFE_POLICY: Final = "least_load"
"""Decides where a policy fails."""

_random_bits: Final = partial(random.getrandbits, 64)


def build(
    settings: Settings,
    *,
    clock: Callable[[], float] = time.monotonic,
    rng: Callable[[], int] = _random_bits,
    dial: Dial | None = None,
    picker: bool = False,
) -> Components:
    """All components of one replica. Raises what a wrong setting raises; `turnout check` explains those.

    `clock` and `rng` other than the defaults make runs repeatable. `dial` connects to pods for requests, in place of
    what their pools' settings say. `picker`: the inference port is an endpoint picker's.
    """
    name = settings.replica or f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(3)}"
    core = CoreParts(settings, name, clock, rng, Lifecycle(clock), Metrics())
    state = _state(core)
    network = _network(core, state, dial)
    pods = _pods(core, state, network)
    policy = _policy(core, state.store)
    ports = read_ports(settings, picker=picker)
    dataplane = _dataplane(core, state, network, pods, policy, ports)
    state_listener = ReplicaStateListener(
        state.view,
        state.prefix,
        pods.updates,
        pods.scraper,
        policy.controller,
        pods.models,
        pods.prober,
        dataplane.access.shared if dataplane.access is not None else None,
        network.shares,
    )
    warmup = Warmup(
        store=state.store,
        listener=state_listener,
        replica=name,
        pools=[pool.name for pool in settings.pools],
        pod_registry=pods.registry,
        prober=pods.prober,
        models=pods.models,
        lifecycle=core.lifecycle,
        may_be_empty={pool.name for pool in settings.pools if pool.scale_from_zero_s},
    )
    control = ControlParts.of(settings.control, name, clock)
    return Components(core, state, network, pods, policy, dataplane, ports, control, state_listener, warmup)


def _state(core: CoreParts) -> StateParts:
    settings = core.settings
    store = open_store(settings.state, settings.sync)
    # An announcement that no replica receives would still cost 1.5 us a request.
    announce, age_s = (store.announce, store.age_s) if store.shared else (None, None)
    prefix = open_index(settings)
    strict = {
        pool.name
        for pool in settings.pools
        if pool.kind == LLM and not pool.models and pool.name != settings.default_pool
    }
    view = LoadView(core.clock, announce, age_s, settings.labels, strict)
    return StateParts(store, view, prefix, PrefixAccuracy(prefix.set_trust))


def _network(core: CoreParts, state: StateParts, dial: Dial | None) -> NetworkParts:
    settings = core.settings
    routes = Routes(settings.pools, settings.default_pool, settings.timeouts)
    deadlines = Deadlines(core.clock, resolution_for(*request_limits_s(settings)))
    weights = {tenant.name: (tenant.weight, tenant.priority) for tenant in settings.tenants}
    shares = FairShares(weights, state.store.served if state.store.shared else None) if weights else None
    admission = Admission(settings.limits, core.clock, shares, state.view.room)
    write_batcher = WriteBatcher(admission.active)
    accesses = Accesses({pool.name: pool_access(pool, settings, os.environ) for pool in settings.pools})
    upstream = Upstream(deadlines, dial or accesses.dial, write_batcher)
    return NetworkParts(routes, accesses, deadlines, admission, shares, write_batcher, upstream)


def _pods(core: CoreParts, state: StateParts, network: NetworkParts) -> PodParts:
    settings, view, routes = core.settings, state.view, network.routes
    updates = PodUpdates(view, state.prefix, state.prefix_accuracy, routes, network.upstream, core.metrics)
    fallbacks = {pool.name: pool.fallback for pool in settings.pools if pool.fallback}
    health = HealthTracker(settings.health, updates.on_health, fallbacks=fallbacks, on_kept=updates.on_kept)
    accesses = network.accesses
    prober = Prober(settings.health, health, accesses, state.store, clock=core.clock)
    models = ModelReader(settings.scrape, updates.on_models, state.store, accesses, clock=core.clock)

    def restarted(pod: PodId) -> None:
        updates.on_restart(pod)
        models.restarted(pod)

    listener = ScrapeListener(updates.on_report, restarted)
    scraper = Scraper(settings.scrape, listener, state.store, accesses, clock=core.clock)
    held = [pool.name for pool in settings.pools if pool.affinity == HOLD]
    homes = SessionHomes(view, core.clock, held, routes.lacks) if held else None
    kv_events = open_reader(settings, state.prefix, core.clock)
    readers: list[PodFollower] = [scraper, models, *([kv_events] if kv_events is not None else [])]
    pod_registry = PodRegistry(view, updates, routes, health, prober, state.store, homes=homes, engine_readers=readers)
    return PodParts(pod_registry, updates, health, prober, scraper, models, kv_events)


def _policy(core: CoreParts, store: StateStore) -> PolicyParts:
    settings = core.settings
    plugin_registry = PluginRegistry()
    load_present(settings.plugins, plugin_registry)  # the policies built next may be among the plugins
    catalog = PolicyCatalog(settings.policies, partial(create_watched, settings.policy_guard.stuck_s))
    # A replica that starts again under its old name must not replace the figures that it shared before.
    reporter = f"{core.name}/{secrets.token_hex(3)}"
    histories = {pool.name: PoolHistory(TTFT_BOUNDS_S, _ttfts(core.metrics, pool.name)) for pool in settings.pools}
    trials = Trials(reporter, core.clock, shadow_per_s=settings.trials.shadow_per_s, histories=histories)
    configured = {pool.name: pool.policy for pool in settings.pools}
    controller = PolicyController(
        store, configured, catalog.create, trials.make, summarise=trials.summary, wall=time.time
    )
    safe = registry.create(SAFE_POLICY)
    circuit_breaker = PolicyCircuitBreaker(
        safe,
        core.metrics,
        core.clock,
        settings.policy_guard,
        on_taken_out=[
            lambda pool, scheduler, why: controller.take_out(pool, scheduler, safe, why),
            trials.policy_taken_out,
        ],
        on_failure=[trials.policy_failed],
    )
    monitor = TrialMonitor(trials, store, _end_canary(controller))
    samples = Samples() if settings.plugins.directory else None
    recent = samples.recent if samples is not None else tuple
    plugins = PluginWatcher(settings.plugins, plugin_registry, recent, PluginOffers(catalog, controller))
    return PolicyParts(controller, catalog, circuit_breaker, trials, monitor, plugins, samples)


def _ttfts(metrics: Metrics, pool: str) -> Callable[[], Sequence[int]]:
    return lambda: metrics.pool(pool).ttft.cumulative()


def _end_canary(controller: PolicyController) -> EndCanary:
    def end(pool: str, record: PolicyRecord, note: str) -> Awaitable[object]:
        how = ChangeOptions(record.generation, note, if_digest=digest(record), by="guard")
        return controller.set_canary(pool, None, how)

    return end


def _identity(core: CoreParts, network: NetworkParts, ports: PortParts, cors: AllowedOrigins | None) -> WireHeaders:
    accesses, clusters = network.accesses.by_pool, network.routes.clusters
    key = secrets.token_bytes(16) if core.settings.auth is not None else b""
    return WireHeaders(core.name, secrets.randbits(48), clusters, cors, ports.proxies, accesses, key)


def _local(
    core: CoreParts, network: NetworkParts, identity: WireHeaders, cors: AllowedOrigins | None, targets: TargetList
) -> LocalRoutes:
    paths = ForwardedPaths(core.settings.paths.forward)
    return LocalRoutes(core.lifecycle, network.routes, identity, int(time.time()), paths, cors, targets.body)


def _dataplane(
    core: CoreParts, state: StateParts, network: NetworkParts, pods: PodParts, policy: PolicyParts, ports: PortParts
) -> GatewayParts:
    settings = core.settings
    cors = AllowedOrigins(settings.cors.allow_origins) if settings.cors.allow_origins else None
    identity, resolver = _identity(core, network, ports, cors), TargetResolver(settings.targets)
    observers = open_observers(settings, core.name, core.clock, core.rng, state.view)
    access = open_access(settings, state.store, time.time)
    limits = _limits(core, state.store, access)
    streams = open_streams(settings, state.store, network.deadlines, identity.error_headers, core.metrics.count_move)
    gateway = Gateway(
        GatewayDeps(
            settings=settings,
            clock=core.clock,
            lifecycle=core.lifecycle,
            local=_local(core, network, identity, cors, TargetList(network.routes, resolver, state.view)),
            routes=network.routes,
            admission=network.admission,
            shares=TenantShares(network.shares) if network.shares is not None else None,
            dispatch=_dispatch(core, state, policy),
            upstream=network.upstream,
            view=state.view,
            identity=identity,
            metrics=core.metrics,
            outcome=pods.updates.ends_of(pods.health) if _ranked(settings) else pods.health.outcome,
            unsettled=pods.health.unsettled,
            tap=observers.tap,
            ended=observers.tracer.ended if observers.tracer is not None else None,
            learn=open_feedback(state.prefix, state.prefix_accuracy, pods.kv_events, core.clock),
            targets=resolver,
            lists=pods.models,
            owners=StateOwners(state.store),
            homes=pods.registry.homes,
            access=access.control if access is not None else None,
            limits=TenantLimits(limits, core.clock, time.time) if limits is not None else None,
            pairs=_pairs(settings),
            streams=streams.serve if streams is not None else None,
        )
    )
    pods.updates.on_probe_failed = gateway.pods_gone
    listener = Listener(
        gateway,
        *(network.deadlines, settings.limits, settings.timeouts, gateway.completion.refused, network.write_batcher),
        keep_peers=settings.logging.access,
        port=ports.inference,
        admit=gateway.admit if access is not None else None,
    )
    grpc = open_grpc(gateway.deps, network.accesses, listener, core.name, core.rng)
    retire_on_change(ports.inference.tls, listener)
    return GatewayParts(gateway, access, _sharing(core, state.store, limits), listener, observers, streams, grpc)


def _ranked(settings: Settings) -> bool:
    return any(pool.ranks for pool in settings.pools)


def _sharing(core: CoreParts, store: StateStore, limits: LimitRegistry | None) -> LimitSharing | None:
    return LimitSharing(limits.shares, store, core.clock) if limits is not None and store.shared else None


def _pairs(settings: Settings) -> Callable[..., PairSender] | None:
    if not any(pool.disaggregation for pool in settings.pools):
        return None
    from router.dataplane.disaggregation import PairStage

    return PairStage


def _limits(core: CoreParts, store: StateStore, access: AccessSources | None) -> LimitRegistry | None:
    limited = [tenant for tenant in access.control.tenants.values() if tenant.limited] if access is not None else []
    return LimitRegistry(limited, core.clock, shared=store.shared) if limited else None


def _dispatch(core: CoreParts, state: StateParts, policy: PolicyParts) -> Dispatch:
    live = policy.controller.live_policies
    live.read_sessions_of(session_pools(core.settings))
    make: Callable[..., Dispatch] = Dispatch
    if any(pool.disaggregation for pool in core.settings.pools):
        from router.dataplane.pair_dispatch import pair_dispatch, splits_of

        make = pair_dispatch(splits_of(core.settings.pools))
    return make(
        state.view,
        state.prefix,
        live,
        policy.circuit_breaker,
        policy.catalog.by_name(),
        state.store.placed if state.store.shared else None,
        core.rng,
        policy.trials.running,
        policy.samples,
        state.prefix_accuracy,
        SessionKeys(core.settings.sessions),
        live.session_pools,
    )
