"""Names, types and labels of all metrics, and the Prometheus families made from the gateway's plain ints.

Everything here runs at scrape time only. Families are made in pieces (`pieces`), between which `exposition.py` lets the
event loop run; `collect` yields the same as whole families, as prometheus_client expects.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice

from prometheus_client.core import Metric
from prometheus_client.registry import Collector
from prometheus_client.samples import Sample

from router.lifecycle import Phase
from router.telemetry.counts import counters
from router.telemetry.family import Family, Labels, Row, families_of, family, single
from router.telemetry.histograms import by_cluster, by_pool
from router.telemetry.metrics import Metrics, PoolMetrics
from schedulers.types import PodId
from statesync.prefix.accuracy import PodAccuracy
from statesync.store.protocol import StoreHealth
from statesync.types import PodStatus


@dataclass(frozen=True, slots=True, kw_only=True)
class Readings:
    """What a scrape reads from the rest of the gateway. Each function must be fast and must not raise."""

    pods: Callable[[], Sequence[PodStatus]]
    view_age_s: Callable[[], float]
    replicas: Callable[[], int]
    prefix_index_bytes: Callable[[], int]
    prefix_index_blocks: Callable[[], int]
    prefix_truth: Callable[[], Mapping[PodId, PodAccuracy]]
    """By pod: what the prefix index expected, and what the engine reported."""
    client_connections: Callable[[], int]
    waiting: Callable[[], int]
    """Requests that wait in the gateway for a saturated pool."""
    phase: Callable[[], Phase]
    cold: Callable[[], bool]
    phase_s: Callable[[], Mapping[Phase, float]]
    """Seconds in each phase that was reached."""
    active: Callable[[], int]
    """Requests of this replica that have not ended."""
    state: Callable[[], StoreHealth]
    pods_scraped: Callable[[], int]
    unseen: Callable[[], Mapping[str, float]]
    """By pool."""
    policies: Callable[[], Mapping[str, tuple[str, int]]]
    """By pool: (policy, generation)."""
    policy_digests: Callable[[], Mapping[str, int]]
    """By pool: the identity of its record as a number that a float holds exactly."""
    clusters: Mapping[str, str] = field(default_factory=dict)
    """By pool, of those that name one."""
    version: str
    replica: str
    pools: Callable[[], Sequence[str]] = tuple
    """Every pool, also one without pods."""
    policies_alone: Callable[[], Iterable[str]] = tuple
    """Pools with a policy of this replica's own."""
    policies_out: Callable[[], Iterable[str]] = tuple
    """Pools whose policy was taken out."""
    more: Callable[[], Iterable[Family]] = tuple
    """Families of other files, such as `trials.families`."""


class GatewayCollector(Collector):
    """All of the gateway's own metrics."""

    def __init__(self, metrics: Metrics, readings: Readings) -> None:
        """Reads nothing yet."""
        self._metrics = metrics
        self._readings = readings

    def collect(self) -> Iterator[Metric]:
        """Every family, whole. Blocks for milliseconds with many pods: see `pieces`."""
        for each in self._families():
            yield _piece(each, each.samples())

    def pieces(self, size: int) -> Iterator[Metric]:
        """The same families in order, each in one or more pieces of at most `size` samples."""
        for each in self._families():
            samples = iter(each.samples())
            run = list(islice(samples, size))
            yield _piece(each, run)
            while len(run) == size and (run := list(islice(samples, size))):
                yield _piece(each, run)

    def _families(self) -> Iterator[Family]:
        metrics, readings = self._metrics, self._readings
        yield from counters(metrics, readings.clusters)
        help_text = "Clients that left before their answer was complete."
        yield single("counter", "turnout_client_disconnects", help_text, metrics.client_disconnects)
        yield from families_of("counter", _POOL_SUMS, [({"pool": pool}, numbers) for pool, numbers in metrics.pools])
        yield from by_pool(metrics)
        yield from by_cluster(metrics, readings.clusters)
        yield from _of_pods(readings.pods(), readings.pools())
        truths = [({"pod": str(pod)}, truth) for pod, truth in readings.prefix_truth().items()]
        yield from families_of("counter", _PREFIX_COUNTERS, truths)
        yield from families_of("gauge", _PREFIX_GAUGES, truths)
        yield from _of_replica(readings)
        yield from _of_policies(readings)
        state: Sequence[tuple[Labels, StoreHealth]] = [({}, readings.state())]
        yield from families_of("gauge", _STATE_GAUGES, state)
        yield from families_of("counter", _STATE_COUNTERS, state)
        help_text = "Dispatches of other replicas that the loads do not show yet (estimate)."
        yield family("gauge", "turnout_unseen_requests", help_text, "pool", readings.unseen().items())
        yield from readings.more()


def _piece(family: Family, samples: Iterable[Sample]) -> Metric:
    made = Metric(family.name, family.help, family.kind)
    made.samples = list(samples)
    return made


def _of_pods(pods: Sequence[PodStatus], pools: Sequence[str]) -> Iterator[Family]:
    yield from families_of("gauge", _POD_GAUGES, [({"pool": pod.pool, "pod": str(pod.pod.id)}, pod) for pod in pods])
    sizes = Counter(pod.pool for pod in pods)
    help_text = "Pods that discovery finds; 0 also before its answer."
    yield family("gauge", "turnout_pool_pods", help_text, "pool", [(pool, sizes[pool]) for pool in pools])


def _of_replica(readings: Readings) -> Iterator[Family]:
    yield from families_of("gauge", _REPLICA_GAUGES, [({}, readings)])
    phase, help_text = readings.phase(), "1 for the phase the replica is in."
    yield family("gauge", "turnout_phase", help_text, "phase", [(each.value, float(each is phase)) for each in Phase])
    lasted = [(each.value, seconds) for each, seconds in readings.phase_s().items()]
    yield family("gauge", "turnout_phase_seconds", "Seconds in each phase that was reached.", "phase", lasted)
    about = {"version": readings.version, "replica": readings.replica}
    yield from families_of(
        "gauge", [("turnout_build_info", "Version and replica; always 1.", lambda _: 1.0)], [(about, None)]
    )


def _of_policies(readings: Readings) -> Iterator[Family]:
    named = [({"pool": pool, "policy": name}, (pool, at)) for pool, (name, at) in readings.policies().items()]
    gone, alone = set(readings.policies_out()), set(readings.policies_alone())
    rows: Sequence[Row[tuple[str, int]]] = (
        ("turnout_policy_generation", "Generation of each pool's policy.", lambda of: of[1]),
        (
            "turnout_policy_taken_out",
            "1 where the pool's policy failed too often, and another decides until one is set.",
            lambda of: float(of[0] in gone),
        ),
    )
    yield from families_of("gauge", rows, named)
    help_text = "Identity of each pool's record, as a number: the same on all replicas that have the same record."
    yield family("gauge", "turnout_policy_digest", help_text, "pool", readings.policy_digests().items())
    local = [(pool, float(pool in alone)) for pool in readings.policies()]
    yield family("gauge", "turnout_policy_local", "1 for a policy of this replica's own.", "pool", local)


_POOL_SUMS: Sequence[Row[PoolMetrics]] = (
    ("turnout_received_bytes", "Bytes of request bodies.", lambda pool: pool.bytes_in),
    ("turnout_sent_bytes", "Bytes of answers relayed.", lambda pool: pool.bytes_out),
    ("turnout_prefix_cache_queries", "Prompt tokens routed (estimate).", lambda pool: pool.prefix_queries_tokens),
    (
        "turnout_prefix_cache_hits",
        "Prompt tokens of these that the picked pod was expected to hold.",
        lambda pool: pool.prefix_hits_tokens,
    ),
)

_POD_GAUGES: Sequence[Row[PodStatus]] = (
    ("turnout_inflight_requests", "Dispatched and not finished, over all replicas.", lambda pod: pod.load.inflight),
    ("turnout_inflight_tokens", "Prompt and expected answer tokens of these.", lambda pod: pod.load.inflight_tokens),
    (
        "turnout_pending_prefill_tokens",
        "Uncached prompt tokens dispatched whose first token is still to come.",
        lambda pod: pod.load.pending_prefill_tokens,
    ),
    ("turnout_queued_requests", "Waiting inside the engine (its own report).", lambda pod: pod.load.queued),
    ("turnout_running_requests", "In the engine's batch (its own report).", lambda pod: pod.load.running),
    ("turnout_kv_usage_ratio", "Share of the KV cache in use (its own report).", lambda pod: pod.load.kv_usage),
    ("turnout_pod_routable", "1 if the pod may be sent requests and does not fail.", lambda pod: float(pod.well())),
    (
        "turnout_pod_kept",
        "1 if the pod fails, and gets requests because its pool has too few others.",
        lambda pod: float(bool(pod.kept)),
    ),
)

_PREFIX_COUNTERS: Sequence[Row[PodAccuracy]] = (
    (
        "turnout_prefix_predicted_tokens",
        "Prompt tokens the pod was expected to hold, where the engine reported what it held.",
        lambda of: of.predicted,
    ),
    ("turnout_prefix_true_tokens", "Of the same prompts, what it held.", lambda of: of.true),
    ("turnout_prefix_error_tokens", "Sum of the differences, too high or too low.", lambda of: of.error),
)

_PREFIX_GAUGES: Sequence[Row[PodAccuracy]] = (
    (
        "turnout_prefix_trust_ratio",
        "Share of the pod's KV capacity that the prefix index keeps: learned from the differences.",
        lambda of: of.trust,
    ),
)

_REPLICA_GAUGES: Sequence[Row[Readings]] = (
    ("turnout_view_age_seconds", "Age of what is known of other replicas.", lambda of: of.view_age_s()),
    ("turnout_replicas", "Live replicas, this one included.", lambda of: of.replicas()),
    ("turnout_prefix_index_bytes", "Memory the prefix index takes.", lambda of: of.prefix_index_bytes()),
    ("turnout_prefix_index_blocks", "Blocks placed in the prefix index.", lambda of: of.prefix_index_blocks()),
    ("turnout_client_connections", "Open client connections.", lambda of: of.client_connections()),
    ("turnout_waiting_requests", "Requests that wait here for a saturated pool.", lambda of: of.waiting()),
    ("turnout_active_requests", "Requests that came here and have not ended.", lambda of: of.active()),
    ("turnout_pods_scraped", "Engines whose metrics this replica reads for all.", lambda of: of.pods_scraped()),
    ("turnout_cold", "1 if it became ready before its warm-up was through.", lambda of: float(of.cold())),
)

_STATE_GAUGES: Sequence[Row[StoreHealth]] = (
    ("turnout_state_connected", "1 while there is a link to the shared state.", lambda of: float(of.connected)),
    ("turnout_state_warm", "1 once all that the others knew has been read.", lambda of: float(of.warm)),
    ("turnout_state_strangers", "Live replicas of another fleet in the namespace.", lambda of: of.strangers),
)

_STATE_COUNTERS: Sequence[Row[StoreHealth]] = (
    ("turnout_state_round_trips", "Exchanges with the server.", lambda of: of.round_trips),
    ("turnout_state_sent_bytes", "Bytes sent to the server.", lambda of: of.bytes_sent),
    ("turnout_state_received_bytes", "Bytes received from it.", lambda of: of.bytes_received),
    ("turnout_state_reconnects", "Links made after the first.", lambda of: of.reconnects),
    ("turnout_state_lease_losses", "Times this replica had to register anew.", lambda of: of.lease_losses),
    (
        "turnout_state_placements_dropped",
        "Placements that no other replica gets: the server was away for too long.",
        lambda of: of.placements_dropped,
    ),
    ("turnout_state_policies_put_back", "Policies that were put back.", lambda of: of.policies_put_back),
    ("turnout_state_policies_given_up", "Policies given up here.", lambda of: of.policies_given_up),
    ("turnout_state_unreadable", "Messages of others that could not be read.", lambda of: of.unreadable),
)
