"""Names, types and labels of all metrics, and the Prometheus families made from the gateway's plain ints.

Everything here runs at scrape time only. Families are made in pieces (`pieces`), between which `exposition.py` lets the
event loop run; `collect` yields the same as whole families, as prometheus_client expects.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import NamedTuple

from prometheus_client.core import Metric
from prometheus_client.registry import Collector
from prometheus_client.samples import Sample

from router.lifecycle import Phase
from router.telemetry.counts import Counts, labelled
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


Labels = dict[str, str]


class Family(NamedTuple):
    """One metric: its name without the type's suffix, and the source of its samples."""

    name: str
    kind: str
    help: str
    samples: Callable[[], Iterable[Sample]]


class GatewayCollector(Collector):
    """All of the gateway's own metrics."""

    def __init__(self, metrics: Metrics, readings: Readings) -> None:
        """Reads nothing yet."""
        self._metrics = metrics
        self._readings = readings

    def collect(self) -> Iterator[Metric]:
        """Every family, whole. Blocks for milliseconds with many pods: see `pieces`."""
        for family in self._families():
            yield _piece(family, family.samples())

    def pieces(self, size: int) -> Iterator[Metric]:
        """The same families in order, each in one or more pieces of at most `size` samples."""
        for family in self._families():
            samples = iter(family.samples())
            run = list(islice(samples, size))
            yield _piece(family, run)
            while len(run) == size and (run := list(islice(samples, size))):
                yield _piece(family, run)

    def _families(self) -> Iterator[Family]:
        yield from _counters(self._metrics, self._readings.clusters)
        for histograms in (by_pool(self._metrics), by_cluster(self._metrics, self._readings.clusters)):
            for name, help_text, samples in histograms:
                yield Family(name, "histogram", help_text, samples)
        yield from _pod_gauges(self._readings.pods(), self._readings.pools())
        yield from _prefix_truth(self._readings.prefix_truth())
        yield from _replica_gauges(self._readings)
        yield from _state(self._readings)
        yield from self._readings.more()


def _piece(family: Family, samples: Iterable[Sample]) -> Metric:
    made = Metric(family.name, family.help, family.kind)
    made.samples = list(samples)
    return made


def _counters(metrics: Metrics, clusters: Mapping[str, str]) -> Iterator[Family]:
    """Counters by label tuple, then the sums without labels."""
    for name, help_text, counts, labels in labelled(metrics, clusters):
        yield Family(name, "counter", help_text, _counted(name, counts, labels))
    left = metrics.client_disconnects
    yield Family(
        "turnout_client_disconnects",
        "counter",
        "Clients that left before their answer was complete.",
        lambda: [Sample("turnout_client_disconnects_total", {}, left)],
    )
    for name, help_text, read in _POOL_SUMS:
        yield Family(name, "counter", help_text, _by_pool(name + "_total", metrics, read))


def _counted(name: str, counts: Counts, labels: tuple[str, ...]) -> Callable[[], Iterable[Sample]]:
    return lambda: (
        Sample(name + "_total", dict(zip(labels, map(str, key), strict=True)), count) for key, count in counts
    )


_POOL_SUMS: Sequence[tuple[str, str, Callable[[PoolMetrics], float]]] = (
    ("turnout_received_bytes", "Bytes of request bodies.", lambda pool: pool.bytes_in),
    ("turnout_sent_bytes", "Bytes of answers relayed.", lambda pool: pool.bytes_out),
    ("turnout_prefix_cache_queries", "Prompt tokens routed (estimate).", lambda pool: pool.prefix_queries_tokens),
    (
        "turnout_prefix_cache_hits",
        "Prompt tokens of these that the picked pod was expected to hold.",
        lambda pool: pool.prefix_hits_tokens,
    ),
)


def _by_pool(name: str, metrics: Metrics, read: Callable[[PoolMetrics], float]) -> Callable[[], Iterable[Sample]]:
    return lambda: (Sample(name, {"pool": pool}, read(numbers)) for pool, numbers in metrics.pools)


_POD_GAUGES: Sequence[tuple[str, str, Callable[[PodStatus], float]]] = (
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


def _pod_gauges(pods: Sequence[PodStatus], pools: Sequence[str]) -> Iterator[Family]:
    for name, help_text, read in _POD_GAUGES:
        yield Family(name, "gauge", help_text, _by_pod(name, pods, read))
    sizes = Counter(pod.pool for pod in pods)
    samples = [Sample("turnout_pool_pods", {"pool": pool}, sizes[pool]) for pool in pools]
    yield Family("turnout_pool_pods", "gauge", "Pods that discovery finds; 0 also before its answer.", lambda: samples)


def _by_pod(name: str, pods: Sequence[PodStatus], read: Callable[[PodStatus], float]) -> Callable[[], Iterable[Sample]]:
    return lambda: (Sample(name, {"pool": pod.pool, "pod": str(pod.pod.id)}, read(pod)) for pod in pods)


_PREFIX_TRUTH: Sequence[tuple[str, str, str, Callable[[PodAccuracy], float]]] = (
    (
        "turnout_prefix_predicted_tokens",
        "counter",
        "Prompt tokens the pod was expected to hold, where the engine reported what it held.",
        lambda prefix_accuracy: prefix_accuracy.predicted,
    ),
    (
        "turnout_prefix_true_tokens",
        "counter",
        "Of the same prompts, what it held.",
        lambda prefix_accuracy: prefix_accuracy.true,
    ),
    (
        "turnout_prefix_error_tokens",
        "counter",
        "Sum of the differences, too high or too low.",
        lambda prefix_accuracy: prefix_accuracy.error,
    ),
    (
        "turnout_prefix_trust_ratio",
        "gauge",
        "Share of the pod's KV capacity that the prefix index keeps: learned from the differences.",
        lambda prefix_accuracy: prefix_accuracy.trust,
    ),
)


def _prefix_truth(truths: Mapping[PodId, PodAccuracy]) -> Iterator[Family]:
    pods = list(truths.items())
    for name, kind, help_text, read in _PREFIX_TRUTH:
        yield Family(name, kind, help_text, _by_truth(name + "_total" * (kind == "counter"), pods, read))


def _by_truth(
    name: str, pods: Sequence[tuple[PodId, PodAccuracy]], read: Callable[[PodAccuracy], float]
) -> Callable[[], Iterable[Sample]]:
    return lambda: (Sample(name, {"pod": str(pod)}, read(prefix_accuracy)) for pod, prefix_accuracy in pods)


def _replica_gauges(readings: Readings) -> Iterator[Family]:
    phase = readings.phase()
    about = {"version": readings.version, "replica": readings.replica}
    plain: Sequence[tuple[str, str, float]] = (
        ("turnout_view_age_seconds", "Age of what is known of other replicas.", readings.view_age_s()),
        ("turnout_replicas", "Live replicas, this one included.", readings.replicas()),
        ("turnout_prefix_index_bytes", "Memory the prefix index takes.", readings.prefix_index_bytes()),
        ("turnout_prefix_index_blocks", "Blocks placed in the prefix index.", readings.prefix_index_blocks()),
        ("turnout_client_connections", "Open client connections.", readings.client_connections()),
        ("turnout_waiting_requests", "Requests that wait here for a saturated pool.", readings.waiting()),
        ("turnout_active_requests", "Requests that came here and have not ended.", readings.active()),
        ("turnout_pods_scraped", "Engines whose metrics this replica reads for all.", readings.pods_scraped()),
        ("turnout_cold", "1 if it became ready before its warm-up was through.", float(readings.cold())),
    )
    for name, help_text, value in plain:
        yield Family(name, "gauge", help_text, _one(name, {}, value))
    phases = [Sample("turnout_phase", {"phase": each.value}, float(each is phase)) for each in Phase]
    yield Family("turnout_phase", "gauge", "1 for the phase the replica is in.", lambda: phases)
    lasted = [Sample("turnout_phase_seconds", {"phase": each.value}, s) for each, s in readings.phase_s().items()]
    yield Family("turnout_phase_seconds", "gauge", "Seconds in each phase that was reached.", lambda: lasted)
    policies = [
        Sample("turnout_policy_generation", {"pool": pool, "policy": policy}, generation)
        for pool, (policy, generation) in readings.policies().items()
    ]
    yield Family("turnout_policy_generation", "gauge", "Generation of each pool's policy.", lambda: policies)
    identities = [Sample("turnout_policy_digest", {"pool": pool}, n) for pool, n in readings.policy_digests().items()]
    help_text = "Identity of each pool's record, as a number: the same on all replicas that have the same record."
    yield Family("turnout_policy_digest", "gauge", help_text, lambda: identities)
    alone = set(readings.policies_alone())
    local = [Sample("turnout_policy_local", {"pool": pool}, float(pool in alone)) for pool in readings.policies()]
    yield Family("turnout_policy_local", "gauge", "1 for a policy of this replica's own.", lambda: local)
    gone = set(readings.policies_out())
    out = [
        Sample("turnout_policy_taken_out", {"pool": pool, "policy": policy}, float(pool in gone))
        for pool, (policy, _) in readings.policies().items()
    ]
    help_text = "1 where the pool's policy failed too often, and another decides until one is set."
    yield Family("turnout_policy_taken_out", "gauge", help_text, lambda: out)
    yield Family(
        "turnout_build_info", "gauge", "Version and replica; always 1.", _one("turnout_build_info", about, 1.0)
    )


_STATE: Sequence[tuple[str, str, str, Callable[[StoreHealth], float]]] = (
    ("turnout_state_connected", "gauge", "1 while there is a link to the shared state.", lambda link: link.connected),
    ("turnout_state_warm", "gauge", "1 once all that the others knew has been read.", lambda link: link.warm),
    ("turnout_state_round_trips", "counter", "Exchanges with the server.", lambda link: link.round_trips),
    ("turnout_state_sent_bytes", "counter", "Bytes sent to the server.", lambda link: link.bytes_sent),
    ("turnout_state_received_bytes", "counter", "Bytes received from it.", lambda link: link.bytes_received),
    ("turnout_state_reconnects", "counter", "Links made after the first.", lambda link: link.reconnects),
    (
        "turnout_state_lease_losses",
        "counter",
        "Times this replica had to register anew.",
        lambda link: link.lease_losses,
    ),
    (
        "turnout_state_placements_dropped",
        "counter",
        "Placements that no other replica gets: the server was away for too long.",
        lambda link: link.placements_dropped,
    ),
    ("turnout_state_policies_put_back", "counter", "Policies that were put back.", lambda link: link.policies_put_back),
    ("turnout_state_policies_given_up", "counter", "Policies given up here.", lambda link: link.policies_given_up),
    ("turnout_state_unreadable", "counter", "Messages of others that could not be read.", lambda link: link.unreadable),
    (
        "turnout_state_strangers",
        "gauge",
        "Live replicas of another fleet in the namespace.",
        lambda link: link.strangers,
    ),
)


def _state(readings: Readings) -> Iterator[Family]:
    link = readings.state()
    for name, kind, help_text, read in _STATE:
        yield Family(name, kind, help_text, _one(name + "_total" * (kind == "counter"), {}, float(read(link))))
    unseen = [Sample("turnout_unseen_requests", {"pool": pool}, count) for pool, count in readings.unseen().items()]
    help_text = "Dispatches of other replicas that the loads do not show yet (estimate)."
    yield Family("turnout_unseen_requests", "gauge", help_text, lambda: unseen)


def _one(name: str, labels: Labels, value: float) -> Callable[[], Iterable[Sample]]:
    return lambda: [Sample(name, labels, value)]
