"""What a control port says of its pods and requests at a moment, and what happened between two moments. Pure; no
network and no terminal. `fleet_view.py` shows it.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, NamedTuple

from prometheus_client.parser import text_string_to_metric_families

Labels = Mapping[str, str]

_REQUESTS: Final = "turnout_requests_total"
_TTFT: Final = "turnout_time_to_first_token_seconds_bucket"
_QUERIES: Final = "turnout_prefix_cache_queries_total"
_HITS: Final = "turnout_prefix_cache_hits_total"
_READ: Final = tuple(f"{name}{{" for name in (_REQUESTS, _TTFT, _QUERIES, _HITS))
"""How the lines begin that are read of a page of metrics, which has 60,000 lines with 1,000 pods."""


class PodReading(NamedTuple):
    """One pod at one moment."""

    id: str
    pool: str
    requests: int
    """Answered since the gateway started."""
    inflight: int
    queued: int
    running: int
    kv_usage: float
    trouble: str
    """Why it gets no requests, or fails; empty for a pod that is well."""


class Reading(NamedTuple):
    """All pods and sums at one moment; the sums only grow."""

    at: float
    policies: Mapping[str, str]
    """By pool, pools without pods included."""
    pods: tuple[PodReading, ...]
    requests: int
    failed: int
    """Answers of 500 and above, and those that never reached a pod."""
    prompt_tokens: float
    hit_tokens: float
    ttft: tuple[tuple[float, float], ...]
    """Cumulative histogram: (upper bound in seconds, count), in order."""

    @property
    def policy(self) -> str:
        """Those in use, each once."""
        return " ".join(dict.fromkeys(self.policies.values()))


class Recent(NamedTuple):
    """What happened between two readings."""

    rate: float
    """Requests a second."""
    hit_rate: float | None
    """Share of prompt tokens that went where they were cached; None without prompts."""
    ttft_p50_s: float | None
    ttft_p90_s: float | None


def read(
    at: float, pods: Iterable[Mapping[str, object]], pools: Iterable[Mapping[str, object]], metrics: str
) -> Reading:
    """A reading from the answers of /admin/pods, /admin/pools and /metrics at `at` seconds."""
    samples = _samples(metrics)
    requests = samples.get(_REQUESTS, [])
    by_pod: dict[str, float] = {}
    for labels, count in requests:
        by_pod[labels["pod"]] = by_pod.get(labels["pod"], 0.0) + count
    ttft: dict[float, float] = {}
    for labels, count in samples.get(_TTFT, []):
        bound = float(labels["le"])
        ttft[bound] = ttft.get(bound, 0.0) + count
    return Reading(
        at=at,
        policies={str(pool["name"]): str(pool["policy"]) for pool in pools},
        pods=tuple(_pod(pod, by_pod) for pod in pods),
        requests=int(sum(count for _, count in requests)),
        failed=int(sum(count for labels, count in requests if labels["status"] >= "500")),
        prompt_tokens=sum(count for _, count in samples.get(_QUERIES, [])),
        hit_tokens=sum(count for _, count in samples.get(_HITS, [])),
        ttft=tuple(sorted(ttft.items())),
    )


def _samples(metrics: str) -> dict[str, list[tuple[Labels, float]]]:
    found: dict[str, list[tuple[Labels, float]]] = {}
    lines = [line for line in metrics.split("\n") if line.startswith(_READ)]
    for family in text_string_to_metric_families("\n".join(lines)):
        for sample in family.samples:
            found.setdefault(sample.name, []).append((sample.labels, sample.value))
    return found


def _pod(pod: Mapping[str, object], requests: Mapping[str, float]) -> PodReading:
    return PodReading(
        id=str(pod["id"]),
        pool=str(pod.get("pool", "")),
        requests=int(requests.get(str(pod["id"]), 0)),
        inflight=int(str(pod["inflight"])),
        queued=int(str(pod["queued"])),
        running=int(str(pod["running"])),
        kv_usage=float(str(pod["kv_usage"])),
        trouble=_trouble(pod),
    )


def _trouble(pod: Mapping[str, object]) -> str:
    if not pod["routable"]:
        blockers = pod.get("blockers")
        return ",".join(map(str, blockers)) if isinstance(blockers, list) and blockers else "not routable"
    return "failing" if pod.get("kept") else ""


def recent(now: Reading, before: Reading) -> Recent:
    """What happened from `before` to `now`."""
    seconds = now.at - before.at
    asked = now.prompt_tokens - before.prompt_tokens
    counts = dict(before.ttft)
    grown = [(bound, count - counts.get(bound, 0.0)) for bound, count in now.ttft]
    return Recent(
        rate=max(0, now.requests - before.requests) / seconds if seconds > 0 else 0.0,
        hit_rate=(now.hit_tokens - before.hit_tokens) / asked if asked > 0 else None,
        ttft_p50_s=quantile(grown, 0.5),
        ttft_p90_s=quantile(grown, 0.9),
    )


def quantile(buckets: Sequence[tuple[float, float]], share: float) -> float | None:
    """Out of a cumulative histogram, linear inside the bucket; None when it is empty."""
    if not buckets or buckets[-1][1] <= 0:
        return None
    rank = share * buckets[-1][1]
    for (low, below), (high, count) in itertools.pairwise([(0.0, 0.0), *buckets]):
        if count >= rank:
            # The last bucket has no upper end to interpolate to.
            return low if high == float("inf") else low + (high - low) * (rank - below) / max(count - below, 1e-9)
    return None
