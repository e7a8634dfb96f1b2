"""What the demo shows: readings of the gateway's control port, turned into a screen or a line. Pure; no network.

Rates, hit rate and time to first token cover the last seconds: they are differences of two readings.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from prometheus_client.parser import text_string_to_metric_families
from rich.console import Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

Labels = Mapping[str, str]


class PodReading(NamedTuple):
    """One pod at one moment."""

    id: str
    requests: int
    """Answered since the gateway started."""
    inflight: int
    queued: int
    running: int
    kv_usage: float
    routable: bool


class Reading(NamedTuple):
    """All pods and sums at one moment; the sums only grow."""

    at: float
    policy: str
    pods: tuple[PodReading, ...]
    requests: int
    failed: int
    """Answers of 500 and above, and those that never reached a pod."""
    prompt_tokens: float
    hit_tokens: float
    ttft: tuple[tuple[float, float], ...]
    """Cumulative histogram: (upper bound in seconds, count), in order."""


class Recent(NamedTuple):
    """What happened between two readings."""

    rate: float
    """Requests a second."""
    hit_rate: float | None
    """Share of prompt tokens that went where they were cached; None without prompts."""
    ttft_p50_s: float | None
    ttft_p90_s: float | None


def read(at: float, pods: Iterable[Mapping[str, object]], policy: str, metrics: str) -> Reading:
    """A reading from the answers of /admin/pods, /admin/pools/.../policy and /metrics at `at` seconds."""
    samples = _samples(metrics)
    requests = samples.get("turnout_requests_total", [])
    ttft: dict[float, float] = {}
    for labels, count in samples.get("turnout_time_to_first_token_seconds_bucket", []):
        bound = float(labels["le"])
        ttft[bound] = ttft.get(bound, 0.0) + count
    return Reading(
        at=at,
        policy=policy,
        pods=tuple(_pod(pod, requests) for pod in pods),
        requests=int(sum(count for _, count in requests)),
        failed=int(sum(count for labels, count in requests if labels["status"] >= "500")),
        prompt_tokens=sum(count for _, count in samples.get("turnout_prefix_cache_queries_total", [])),
        hit_tokens=sum(count for _, count in samples.get("turnout_prefix_cache_hits_total", [])),
        ttft=tuple(sorted(ttft.items())),
    )


def _samples(metrics: str) -> dict[str, list[tuple[Labels, float]]]:
    found: dict[str, list[tuple[Labels, float]]] = {}
    for family in text_string_to_metric_families(metrics):
        for sample in family.samples:
            found.setdefault(sample.name, []).append((sample.labels, sample.value))
    return found


def _pod(pod: Mapping[str, object], requests: Sequence[tuple[Labels, float]]) -> PodReading:
    return PodReading(
        id=str(pod["id"]),
        requests=int(sum(count for labels, count in requests if labels["pod"] == pod["id"])),
        inflight=int(str(pod["inflight"])),
        queued=int(str(pod["queued"])),
        running=int(str(pod["running"])),
        kv_usage=float(str(pod["kv_usage"])),
        routable=bool(pod["routable"]) and not pod.get("kept"),
    )


def recent(now: Reading, before: Reading) -> Recent:
    """What happened from `before` to `now`."""
    seconds = now.at - before.at
    asked = now.prompt_tokens - before.prompt_tokens
    counts = dict(before.ttft)
    grown = [(bound, count - counts.get(bound, 0.0)) for bound, count in now.ttft]
    return Recent(
        rate=(now.requests - before.requests) / seconds if seconds > 0 else 0.0,
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


def line(now: Reading, before: Reading) -> str:
    """One line for a log or a pipe."""
    what = recent(now, before)
    spread = " ".join(f"{pod.id}={pod.requests}" for pod in now.pods)
    return (
        f"policy={now.policy} requests={now.requests} failed={now.failed} req/s={what.rate:.1f} "
        f"hit_rate={_percent(what.hit_rate)} ttft_p50={_seconds(what.ttft_p50_s)} "
        f"ttft_p90={_seconds(what.ttft_p90_s)} pods: {spread}"
    )


def screen(now: Reading, before: Reading, footer: Sequence[str]) -> RenderableType:
    """The whole terminal: sums, a row for each pod, and a footer."""
    what = recent(now, before)
    head = Text.assemble(
        ("Turnout ", "bold"),
        (f" {now.policy} ", "bold black on green"),
        f"  {what.rate:.1f} req/s   prefix hits {_percent(what.hit_rate)}   "
        f"TTFT p50 {_seconds(what.ttft_p50_s)}  p90 {_seconds(what.ttft_p90_s)}   "
        f"{now.requests:,} requests, {now.failed} failed",
    )
    table = Table(expand=True)
    for title in ("pod", "share of requests", "requests", "in flight", "queued", "running", "KV in use", "routable"):
        table.add_column(title, justify="left" if title in ("pod", "share of requests") else "right")
    answered = max(1, sum(pod.requests for pod in now.pods))
    for pod in now.pods:
        table.add_row(
            pod.id,
            ProgressBar(total=1.0, completed=pod.requests / answered, width=24),
            f"{pod.requests:,}",
            str(pod.inflight),
            str(pod.queued),
            str(pod.running),
            f"{pod.kv_usage:.0%}",
            Text("yes", style="green") if pod.routable else Text("no", style="bold red"),
        )
    return Group(head, table, *(Text(text, style="dim") for text in footer))


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{share:.0%}"


def _seconds(value: float | None) -> str:
    return "-" if value is None else f"{value * 1000:.0f} ms"
