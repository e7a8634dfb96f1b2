"""What the console's live state is made of, as plain values for JSON: rows of pods, pools and tenants. Knows no stream
and no viewer.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, NamedTuple, TypeVar

from router.access.slot_share import SlotShare
from router.control.plane import DRAINING, ControlPlane, describe_policy, describe_state
from router.telemetry.metrics import RATIO_BOUNDS, TTFT_BOUNDS_S, Histogram, Metrics
from schedulers.types import PodId
from statesync.prefix.accuracy import PodAccuracy
from statesync.shares import share_key
from statesync.types import PodStatus

Row = tuple[object, ...]

_Key = TypeVar("_Key")

POD_FIELDS: Final = (
    *("id", "pool", "state", "why", "inflight", "own_inflight", "queued", "running", "kv_usage", "ttft_s"),
    *("expected_ttft_s", "ttft_error", "looked_up", "found", "requests", "failed"),
)
"""The fields of a pod's row, in order. `looked_up` and `found` are prompt tokens, by the engine's own count; `requests`
and `failed` are this replica's."""

TENANTS_SHOWN: Final = 200

_FAILED: Final = 500
_NO_COUNTS: Final = (0, 0)


class RequestCounts(NamedTuple):
    """Requests that ended, and failures among them."""

    by_pod: Mapping[tuple[str, str], tuple[int, int]]
    by_pool: Mapping[str, tuple[int, int]]


def request_counts(metrics: Metrics) -> RequestCounts:
    """Sums of the counters by pod and by pool; pods that were forgotten count for their pool."""
    by_pod: dict[tuple[str, str], tuple[int, int]] = {}
    by_pool: dict[str, tuple[int, int]] = {}
    for (pool, _, pod, status), count in metrics.requests.items():
        _add(by_pod, (pool, pod), status, count)
    for (pool, _), (count, failed) in by_pod.items():
        before = by_pool.get(pool, _NO_COUNTS)
        by_pool[pool] = before[0] + count, before[1] + failed
    for (pool, status), count in metrics.gone.items():
        _add(by_pool, pool, status, count)
    return RequestCounts(by_pod, by_pool)


def pod_row(status: PodStatus, accuracy: PodAccuracy | None, counts: tuple[int, int] = _NO_COUNTS) -> Row:
    """A pod in `POD_FIELDS`."""
    load, pod = status.load, status.pod
    looked_up, found = accuracy.reported if accuracy is not None else _NO_COUNTS
    return (
        pod.id,
        status.pool,
        "draining" if DRAINING in status.blockers else "failing" if status.kept else "ok" if status.routable else "out",
        ", ".join([*status.blockers, *status.kept]),
        load.inflight,
        status.own_inflight,
        load.queued,
        load.running,
        round(load.kv_usage, 3),
        round(load.ttft_ewma_s, 4),
        round(status.expected_ttft_s, 4),
        round(status.ttft_error, 3),
        looked_up,
        found,
        *counts,
    )


def pools(plane: ControlPlane, rows: Iterable[Row], counts: RequestCounts) -> list[dict[str, object]]:
    """Every pool: its pods, its policy, and what its requests came to since this replica started."""
    sums = {pool.name: [0, 0, 0] for pool in plane.settings.pools}
    for row in rows:
        if (of_pool := sums.get(str(row[1]))) is not None:
            of_pool[0] += 1
            of_pool[1] += row[2] == "ok"
            of_pool[2] += int(str(row[4]))
    return [
        {
            "name": name,
            **dict(zip(("pods", "well", "inflight"), sums[name], strict=True)),
            **dict(zip(("requests", "failed"), counts.by_pool.get(name, _NO_COUNTS), strict=True)),
            **_figures(plane.live.metrics, name),
            **describe_policy(plane, name),
        }
        for name in sums
    ]


def tenants(plane: ControlPlane) -> list[dict[str, object]]:
    """The tenants of the settings, at most `TENANTS_SHOWN`: what they used here, and what is left of their limits."""
    counts, now = plane.live.metrics.tenants, plane.clock()
    named = plane.settings.tenants[:TENANTS_SHOWN]
    found: dict[str, dict[str, object]] = {
        each.name: {
            **{"name": each.name, "weight": each.weight, "priority": each.priority},
            **{"requests": 0, "failed": 0, "refused": 0, "tokens": 0},
            "limits": _limits(plane, each.name, now),
        }
        for each in named
    }
    for (tenant, status), count in counts.requests.items():
        _count(found, tenant, "requests", count)
        _count(found, tenant, "failed", count if status == "5xx" else 0)
    for (tenant, _), count in counts.rejections.items():
        _count(found, tenant, "refused", count)
    for (tenant, kind), count in counts.tokens.items():
        _count(found, tenant, "tokens", count if kind in ("prompt", "completion") else 0)
    return list(found.values())


def first_frame(plane: ControlPlane) -> dict[str, object]:
    """What a viewer needs once."""
    return {
        "fields": POD_FIELDS,
        "ttft_bounds": TTFT_BOUNDS_S,
        "ratio_bounds": RATIO_BOUNDS,
        "policy_names": list(plane.live.policy_names()),
        "secured": bool(plane.tokens),
    }


def replica(plane: ControlPlane) -> dict[str, object]:
    """This replica and the others, as /admin/state has them."""
    return {**describe_state(plane), "waiting": plane.live.waiting()}


def rows_of(statuses: Sequence[PodStatus], accuracies: Mapping[PodId, PodAccuracy], counts: RequestCounts) -> list[Row]:
    """The rows of some pods."""
    by_pod, of = counts.by_pod, accuracies.get
    return [pod_row(each, of(each.pod.id), by_pod.get((each.pool, each.pod.id), _NO_COUNTS)) for each in statuses]


def _figures(metrics: Metrics, pool: str) -> dict[str, object]:
    numbers = metrics.pool(pool)
    return {
        "looked_up": numbers.prefix_queries_tokens,
        "hits": numbers.prefix_hits_tokens,
        "ttft": numbers.ttft.cumulative(),
        "ttft_ratio": numbers.ttft_ratio.cumulative(),
        "decision_us": _microseconds(numbers.decision),
        "refused": sum(count for (of, _), count in metrics.rejections.items() if of == pool),
    }


def _microseconds(histogram: Histogram) -> dict[str, float | None]:
    points = {"p50": histogram.quantile(0.5), "p99": histogram.quantile(0.99)}
    return {name: round(value * 1e6, 1) if math.isfinite(value) else None for name, value in points.items()}


def _limits(plane: ControlPlane, tenant: str, now: float) -> list[dict[str, object]]:
    """The tenant's own limits that are set: what each allows, and what this replica could still use of it."""
    shown: list[dict[str, object]] = []
    limits = plane.live.limits
    if limits is None:
        return shown
    for kind in ("requests", "tokens", "slots"):
        if (share := limits.share(share_key(kind, tenant))) is not None:
            left = share.capacity - share.used if isinstance(share, SlotShare) else share.remaining(now)
            shown.append({"kind": kind, "most": share.capacity, "left": round(left, 1)})
    return shown


def _add(sums: dict[_Key, tuple[int, int]], key: _Key, status: int, count: int) -> None:
    before = sums.get(key, _NO_COUNTS)
    sums[key] = before[0] + count, before[1] + (count if status >= _FAILED else 0)


def _count(rows: Mapping[str, dict[str, object]], tenant: str, field: str, count: int) -> None:
    if (row := rows.get(tenant)) is not None:
        row[field] = int(str(row[field])) + count
