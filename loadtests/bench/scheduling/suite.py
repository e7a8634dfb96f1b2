"""The suite's workloads by name, and simulated runs over one half of them, as values. It runs nothing."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Final, NamedTuple

from loadtests.bench.scheduling.halves import Half, half_of, seed_of
from loadtests.bench.scheduling.saturation import saturation
from loadtests.sim.simulate.runs import Case
from loadtests.sim.simulate.traces import Trace, TraceError, read_trace
from loadtests.sim.workloads.catalog import WORKLOADS, trace_of

RECORDED: Final[Mapping[str, str]] = MappingProxyType(
    {
        "conversation": "mooncake_conversation.jsonl.gz",
        "agentic": "agentic_a.jsonl.gz",
        "azure_chat": "azure_2023_conversation.csv.gz",
        "azure_code": "azure_2023_code.csv.gz",
    }
)
"""Names of recorded workloads and their files in `loadtests/traces`."""

NAMES: Final = (*RECORDED, *WORKLOADS)
"""Every workload of the suite."""

FLEET: Final = 8
"""Pods for which saturation is known; a larger fleet gets proportionally more."""
FLEETS: Final = (FLEET, 64)
REQUESTS: Final[Mapping[int, int]] = MappingProxyType({FLEET: 3_000, 64: 4_000})
"""The first requests of a half that a fleet plays, by its pods: enough for a p99, and a run takes seconds."""

UNDER: Final = (0.5, 0.75, 0.9)
"""Loads below saturation, of it."""
PAST: Final = 1.15
"""The load past it."""


class Point(NamedTuple):
    """What is played: policies at one point are compared with each other."""

    workload: str
    pods: int
    load: float
    """Of the rate that saturates the fleet."""

    def __str__(self) -> str:
        return f"{self.workload}, {self.pods} pods, load {self.load:g}"


class SuiteRun(NamedTuple):
    """One policy on one half of one workload."""

    workload: str
    half: Half
    policy: str
    case: Case
    requests: int | None = None
    """Only this number of first requests; None for all."""
    since_s: float = 0.0
    """Only requests that arrive from then on are counted."""


def suite_run(point: Point, half: Half, policy: str, base: Case, requests: int | None = None) -> SuiteRun:
    """A policy at a point; `requests` instead of the fleet's usual number. Raises TraceError, OSError."""
    rate = saturation(point.workload, half).rate * point.load * point.pods / FLEET
    count = requests or REQUESTS.get(point.pods, max(REQUESTS.values()))
    return SuiteRun(point.workload, half, policy, base._replace(pods=point.pods, rate=rate), count)


@cache
def workload(folder: Path, name: str, half: Half, seed: int) -> Trace:
    """One half of a workload. Raises TraceError for an unknown name; OSError."""
    if name in WORKLOADS:
        return trace_of(name, seed=seed_of(seed, half))
    file = RECORDED.get(name)
    if file is None:
        raise TraceError(f"{name}: no such workload; there are {', '.join(NAMES)}")
    return half_of(read_trace(folder / file, seed=seed), half)
