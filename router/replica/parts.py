"""A replica's components, grouped by what they are for. Values only: `build.py` makes them."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from router.access.limit_sharing import LimitSharing
from router.access.sources import AccessSources
from router.control.parts import ControlParts
from router.dataplane.admission import Admission
from router.dataplane.exchange import Exchange
from router.dataplane.fair_share import FairShares
from router.dataplane.gateway import Gateway
from router.dataplane.http.deadlines import Deadlines
from router.dataplane.http.listener import Listener
from router.dataplane.http.upstream import Upstream
from router.dataplane.http.write_batcher import WriteBatcher
from router.dataplane.request.routes import Routes
from router.lifecycle import Lifecycle
from router.plugins.samples import Samples
from router.plugins.watcher import PluginWatcher
from router.policy.catalog import PolicyCatalog
from router.policy.circuit_breaker import PolicyCircuitBreaker
from router.policy.controller import PolicyController
from router.replica.observers import Observers
from router.replica.pod_registry import PodRegistry
from router.replica.pod_updates import PodUpdates
from router.replica.ports import PortParts
from router.replica.state_listener import ReplicaStateListener
from router.replica.warmup import Warmup
from router.settings import Settings
from router.telemetry.metrics import Metrics
from router.trials.monitor import TrialMonitor
from router.trials.trials import Trials
from statesync.engines.access import Accesses
from statesync.engines.health import HealthTracker
from statesync.engines.model_reader import ModelReader
from statesync.engines.prober import Prober
from statesync.engines.scraper import Scraper
from statesync.load.view import LoadView
from statesync.prefix.accuracy import PrefixAccuracy
from statesync.prefix.index import PrefixIndex
from statesync.store.protocol import StateStore

if TYPE_CHECKING:
    from router.dataplane.grpc.port import GrpcPort
    from router.dataplane.resume.follower import StreamFollower
    from statesync.kv_events.reader import KvEventReader


class CoreParts(NamedTuple):
    """What most other components are built from."""

    settings: Settings
    name: str
    """The replica's, unique among the live ones."""
    clock: Callable[[], float]
    """Seconds, monotonic."""
    rng: Callable[[], int]
    """Gives 64 random bits."""
    lifecycle: Lifecycle
    metrics: Metrics


class StateParts(NamedTuple):
    """What this replica knows of load and prefixes, and the store that it shares with the other replicas."""

    store: StateStore
    view: LoadView
    prefix: PrefixIndex
    prefix_accuracy: PrefixAccuracy


class NetworkParts(NamedTuple):
    """Requests in flight and the connections under them."""

    routes: Routes
    accesses: Accesses
    deadlines: Deadlines
    admission: Admission
    shares: FairShares | None
    """What each tenant got; None where there are no tenants."""
    write_batcher: WriteBatcher
    upstream: Upstream


class PodParts(NamedTuple):
    """Which pods there are, and what follows each of them."""

    registry: PodRegistry
    updates: PodUpdates
    health: HealthTracker
    prober: Prober
    scraper: Scraper
    models: ModelReader
    kv_events: KvEventReader | None
    """None where no pool has `kv_events`."""


class PolicyParts(NamedTuple):
    """The pools' policies, what is tried beside them, and plugins."""

    controller: PolicyController
    catalog: PolicyCatalog
    circuit_breaker: PolicyCircuitBreaker
    trials: Trials
    trial_monitor: TrialMonitor
    plugins: PluginWatcher
    samples: Samples | None
    """Requests to check new plugins with; None where no plugin directory is configured."""


class GatewayParts(NamedTuple):
    """The data plane, from the listening socket down."""

    gateway: Gateway
    access: AccessSources | None
    """Who is let in; None where `auth` is not configured."""
    limit_sharing: LimitSharing | None
    """None without limits of tenants, or without other replicas."""
    listener: Listener[Exchange]
    observers: Observers
    streams: StreamFollower | None
    """None where no pool has streams that are resumed."""
    grpc: GrpcPort | None
    """None without a pool of gRPC."""


class Components(NamedTuple):
    """A replica in parts, none of them started."""

    core: CoreParts
    state: StateParts
    network: NetworkParts
    pods: PodParts
    policy: PolicyParts
    dataplane: GatewayParts
    ports: PortParts
    control: ControlParts
    state_listener: ReplicaStateListener
    warmup: Warmup
