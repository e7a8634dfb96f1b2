"""What one router did on one stretch, in figures, and several stretches as one. Pure; it measures nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from statistics import fmean
from typing import Final

import msgspec

from loadtests.bench.load.session_load import Sent
from loadtests.sim.simulate.summary import SHORT_TOKENS, Spread, spread

LATE_S: Final = 0.020
"""Above this at p99 the load generator itself was late, and its figures say little."""


class Pods(msgspec.Struct, frozen=True):
    """The engines' own counters, over all of them."""

    asked_tokens: int = 0
    """Of prompts, looked up in the cache."""
    hit_tokens: int = 0
    preemptions: int = 0
    steps: int = 0
    late_s: float = 0.0
    """How late steps were delivered, added up."""
    lost_s: float = 0.0
    """By which engines fell behind for good."""


class Cpu(msgspec.Struct, frozen=True):
    """CPU time of each part while the stretch was played, seconds."""

    router_s: float = 0.0
    pods_s: float = 0.0
    load_s: float = 0.0
    cores_s: float = 0.0
    """All cores, by any process."""
    wall_s: float = 0.0


class Played(msgspec.Struct, frozen=True):
    """One run."""

    router: str
    traffic: str
    number: int
    setting: str
    """Of what else the result depends on; a result with another one is not used again."""
    sent: list[Sent]
    pods: Pods
    cpu: Cpu
    rss_mb: float = 0.0


class Figures(msgspec.Struct, frozen=True):
    """A row of the report: seconds, shares, counts."""

    requests: int
    ttft_s: Spread
    short_p99_s: float
    """Of prompts below 16,000 tokens."""
    e2e_s: float
    hit_rate: float
    failures: dict[str, int]
    late_p50_s: float
    late_p99_s: float
    late_max_s: float
    step_late_s: float
    """By which an engine's step was delivered late, on average."""
    lost_s: float
    router_ms: float
    """CPU time a request."""
    router_cores: float
    pods_cores: float
    load_cores: float
    other_cores: float
    """Taken by other programs: noise."""
    rss_mb: float


def exact(run: Played) -> bool:
    """Whether the load generator kept its times."""
    return figures([run]).late_p99_s <= LATE_S


def figures(runs: Sequence[Played]) -> Figures:
    """Of all requests of these runs together; at least one run."""
    sent = [each for run in runs for each in run.sent]
    good = [each for each in sent if not each.failure]
    late = spread(max(0.0, each.late_s) for each in sent)
    wall = sum(run.cpu.wall_s for run in runs) or 1.0
    router, pods, load = (sum(getattr(run.cpu, part) for run in runs) for part in ("router_s", "pods_s", "load_s"))
    asked = sum(run.pods.asked_tokens for run in runs)
    return Figures(
        requests=len(sent),
        ttft_s=spread(each.ttft_s for each in good),
        short_p99_s=spread(each.ttft_s for each in good if each.prompt_tokens < SHORT_TOKENS).p99,
        e2e_s=fmean([each.e2e_s for each in good] or [0.0]),
        hit_rate=sum(run.pods.hit_tokens for run in runs) / asked if asked else 0.0,
        failures=dict(Counter(each.failure for each in sent if each.failure)),
        late_p50_s=late.p50,
        late_p99_s=late.p99,
        late_max_s=max((each.late_s for each in sent), default=0.0),
        step_late_s=sum(run.pods.late_s for run in runs) / max(1, sum(run.pods.steps for run in runs)),
        lost_s=sum(run.pods.lost_s for run in runs),
        router_ms=router * 1000 / max(1, len(sent)),
        router_cores=router / wall,
        pods_cores=pods / wall,
        load_cores=load / wall,
        other_cores=max(0.0, sum(run.cpu.cores_s for run in runs) - router - pods - load) / wall,
        rss_mb=max(run.rss_mb for run in runs),
    )
