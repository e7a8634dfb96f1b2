"""The numbers by which an autoscaler adds and removes pods: how long requests wait for a pool, and how full it is. Made
at scrape time from what others count. Every replica shows its own queue; what is said of pods is the same on all.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from router.telemetry.family import Family, family
from schedulers.ttft import outlook, start_in
from schedulers.types import PodLoad
from statesync.types import PodStatus

LEAST_S = 1.0
"""Backlog of a pool for which requests wait and none was served yet, before they have waited longer."""


class PoolBacklog(NamedTuple):
    """The requests that wait at this replica for one pool."""

    requests: int = 0
    tokens: int = 0
    """Of their prompts and expected answers."""
    tokens_per_s: float = 0.0
    """How fast such requests are served; 0.0 where that is not known."""
    oldest_s: float = 0.0
    """How long the first of them has waited."""

    @property
    def seconds(self) -> float:
        """Time in which they are served."""
        if not self.requests:
            return 0.0
        return self.tokens / self.tokens_per_s if self.tokens_per_s else max(self.oldest_s, LEAST_S)


def families(
    pools: Sequence[str], pods: Sequence[PodStatus], backlogs: Mapping[str, PoolBacklog], now: float
) -> Iterator[Family]:
    """Every family, a sample a pool; `now` is on the clock of the pods' loads."""
    by_pool: dict[str, list[PodStatus]] = {pool: [] for pool in pools}
    for pod in pods:
        if pod.well():
            by_pool[pod.pool].append(pod)
    rows = [(pool, backlogs.get(pool, PoolBacklog()), well) for pool, well in by_pool.items()]
    yield family(
        "gauge",
        "turnout_scale_signal_waiting_requests",
        "Requests that wait here for the pool.",
        "pool",
        [(pool, float(backlog.requests)) for pool, backlog, _ in rows],
    )
    yield family(
        "gauge",
        "turnout_scale_signal_backlog_seconds",
        "Time until a request that comes now is begun: the wait here, and that in the pods.",
        "pool",
        [(pool, backlog.seconds + engine_wait_s(well, now)) for pool, backlog, well in rows],
    )
    yield family(
        "gauge",
        "turnout_scale_signal_saturation_ratio",
        "Share of the pool's places that are taken, of its KV cache without a limit; above 1 while requests wait.",
        "pool",
        [(pool, saturation(well, backlog)) for pool, backlog, well in rows],
    )


def engine_wait_s(pods: Sequence[PodStatus], now: float) -> float:
    """Mean time until a pod begins with one more prompt."""
    return sum(_start_in_s(pod.load, now) for pod in pods) / len(pods) if pods else 0.0


def saturation(pods: Sequence[PodStatus], backlog: PoolBacklog) -> float:
    """How full the pods are, the requests that wait for them included."""
    places = sum(pod.limit or 0 for pod in pods)
    if places:
        return (sum(pod.load.inflight for pod in pods if pod.limit) + backlog.requests) / places
    if pods:
        return sum(pod.load.kv_usage for pod in pods) / len(pods)
    return float(backlog.requests > 0)


def _start_in_s(load: PodLoad, now: float) -> float:
    if not load.prefilling:
        return 0.0
    due, least = outlook(load.prefilling, load.prefill_work, load.head_since, load.pace_s, load.step_s)
    return start_in(due, least, now)
