"""What the control port needs of the gateway, as one frozen value, and what it shows, as plain dicts. No HTTP here: the
routes turn these into answers.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass

from router.access.limits import LimitRegistry
from router.access.shared_keys import SharedKeys
from router.control.audit import AuditLog
from router.control.tokens import ControlTokens
from router.lifecycle import Lifecycle
from router.plugins.samples import Samples
from router.policy.controller import PolicyController
from router.settings import Settings
from router.telemetry.metrics import Metrics
from schedulers.params import fingerprint
from schedulers.protocols import Scheduler
from schedulers.types import PodId
from statesync.discovery.ranks import process_of, whole
from statesync.errors import UnknownPod
from statesync.load.view import LoadView
from statesync.prefix.accuracy import PodAccuracy
from statesync.store.lineage import digest
from statesync.store.policy_record import Canary, PolicyChoice
from statesync.store.protocol import PolicyRecord, StateStore
from statesync.types import PodStatus

DRAINING = "draining"
"""The blocker that an operator's drain puts on a pod."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveSources:
    """What the console shows beyond the answers of the admin API."""

    metrics: Metrics
    accuracy: Mapping[PodId, PodAccuracy]
    waiting: Callable[[], int]
    """Requests that wait in the gateway for a saturated pool."""
    policy_names: Callable[[], Sequence[str]]
    """Every policy that a pool may be given."""
    decider: Callable[[str, str], Scheduler | None]
    """(pool, policy's name) -> the policy, if it decides requests of that pool."""
    open_samples: Callable[[], Samples]
    """Have the data plane keep some decisions, until `close_samples`."""
    close_samples: Callable[[], None]
    limits: LimitRegistry | None = None
    """None where no tenant has a limit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ControlPlane:
    """Everything the control port reads or calls."""

    settings: Settings
    tokens: ControlTokens
    view: LoadView
    store: StateStore
    policies: PolicyController
    lifecycle: Lifecycle
    render_metrics: Callable[[str], Awaitable[tuple[bytes, str]]]
    """Accept header -> text and content type; `Exposition.render`."""
    connections: Callable[[], int]
    """Open client connections of the inference port."""
    active: Callable[[], int]
    """Requests of this replica that have not ended, queued ones included: what a drain waits for."""
    pods_scraped: Callable[[], int]
    """Engines whose metrics this replica reads for all replicas."""
    waits_for: Callable[[], Sequence[str]]
    """What the warm-up still waits for; empty once it is over."""
    drain: Callable[[], None]
    """Begin this replica's drain, as SIGTERM does."""
    clock: Callable[[], float]
    """The lifecycle's clock, seconds, monotonic."""
    started_at: float
    """Unix time of the process's start."""
    replica: str
    version: str
    live: LiveSources
    plugins: Callable[[], Mapping[str, object]] = dict
    """The plugin directory: each file, and the result of its check."""
    trial: Callable[[str], Mapping[str, object]] = lambda pool: {"pool": pool, "running": False}
    """The report on a pool's trial."""
    keys: SharedKeys | None = None
    """The API keys of the shared state; None where they are not there."""
    audit: AuditLog | None = None
    """None where changes are not audited."""


def describe_pod(status: PodStatus) -> dict[str, object]:
    """A pod as /admin/pods answers it. Counts are over all replicas, `own_inflight` is this replica's part."""
    pod, load = status.pod, status.load
    return {
        "id": pod.id,
        "pool": status.pool,
        "address": pod.address,
        "models": sorted(pod.models),
        "role": pod.role,
        "labels": dict(pod.labels),
        "max_inflight": status.limit,
        "inflight": load.inflight,
        "own_inflight": status.own_inflight,
        "inflight_tokens": load.inflight_tokens,
        "pending_prefill_tokens": load.pending_prefill_tokens,
        "prefilling": load.prefilling,
        "pending_s": load.prefill_work * load.pace_s,
        "prefill_tokens_per_s": round(1 / load.pace_s, 1),
        "foreign": load.foreign,
        "queued": load.queued,
        "running": load.running,
        "kv_usage": load.kv_usage,
        "ttft_ewma_s": load.ttft_ewma_s,
        "expected_ttft_s": status.expected_ttft_s,
        "ttft_error": status.ttft_error,
        "routable": status.routable,
        "blockers": list(status.blockers),
        "kept": list(status.kept),
    }


def named_pods(view: LoadView, name: str) -> list[PodId]:
    """The pods that an operator names: one, or all ranks of a pod by its id without a rank."""
    try:
        first = view.pod(PodId(f"{name}@0"))
    except UnknownPod:
        return [PodId(name)]
    return process_of(first) if whole(first) == name else [PodId(name)]


def describe_policy(plane: ControlPlane, pool: str) -> dict[str, object]:
    """A pool's policy, and its state on this replica. Raises UnknownPool."""
    live = plane.policies.status(pool)
    waits_for = plane.policies.waits_for(pool)
    return {
        **describe_record(live.record),
        "policy_digest": fingerprint(live.record.name, live.scheduler),
        "local": live.local,
        "waits_for": waits_for,
        "taken_out": live.taken_out,
    }


def describe_record(record: PolicyRecord) -> dict[str, object]:
    """A pool's record as the API answers it; generation 0 is the settings' own."""
    canary = record.canary
    return {
        **_describe_choice(PolicyChoice(record.name, record.params)),
        "generation": record.generation,
        "digest": digest(record),
        "shadow": _describe_choice(record.shadow) if record.shadow is not None else None,
        "canary": _describe_canary(canary) if canary is not None else None,
        "note": record.note,
        "restores": record.restores,
        **{name: value for name in ("at", "by") if (value := getattr(record, name))},
    }


def _describe_canary(canary: Canary) -> dict[str, object]:
    return {
        **_describe_choice(canary.choice),
        "percent": canary.percent,
        "guard": canary.guard._asdict(),
        **({"switchback_s": canary.switchback_s} if canary.switchback_s else {}),
    }


def _describe_choice(choice: PolicyChoice) -> dict[str, object]:
    return {"policy": choice.name, "params": dict(choice.params)}


def describe_pools(plane: ControlPlane) -> list[dict[str, object]]:
    """Every pool of the settings: its pods, models and policy."""
    pools: list[dict[str, object]] = []
    known = set(plane.view.pools())
    for pool in plane.settings.pools:
        pods = plane.view.statuses(pool.name) if pool.name in known else []
        models = set(pool.models).union(*(pod.pod.models for pod in pods))
        pools.append(
            {
                "name": pool.name,
                "cluster": pool.cluster,
                "fallback": list(pool.fallback),
                "models": sorted(models),
                "aliases": dict(pool.aliases),
                "pods": len(pods),
                "routable": sum(pod.routable for pod in pods),
                "failing": sum(bool(pod.kept) for pod in pods),
                "inflight": sum(pod.load.inflight for pod in pods),
                **describe_policy(plane, pool.name),
            }
        )
    return pools


def describe_state(plane: ControlPlane) -> dict[str, object]:
    """This replica and what it knows of the others."""
    life = plane.lifecycle
    now = plane.clock()
    return {
        "replica": plane.replica,
        "version": plane.version,
        "phase": life.phase.value,
        "phases": {phase.value: round(now - since, 3) for phase, since in life.since.items()},
        "phase_seconds": {phase.value: round(seconds, 3) for phase, seconds in life.lasted_s().items()},
        "ready": life.ready,
        "cold": life.cold,
        "waits_for": list(plane.waits_for()),
        "started_at": plane.started_at,
        "inflight": plane.view.inflight,
        "active": plane.active(),
        "connections": plane.connections(),
        "pods_scraped": plane.pods_scraped(),
        "view_age_s": plane.store.age_s(),
        "unseen": {pool: round(count, 3) for pool, count in plane.view.unseen_by_pool().items()},
        "state": plane.store.health()._asdict(),
        "replicas": _describe_replicas(plane),
    }


def _describe_replicas(plane: ControlPlane) -> list[dict[str, object]]:
    """The live replicas, this one first. A replica is gone when its lease runs out."""
    lease_s = plane.settings.sync.lease_s
    return [
        {"id": each.id, "age_s": each.age_s, "lease_left_s": round(max(0.0, lease_s - each.age_s), 3)}
        for each in plane.store.replicas()
    ]
