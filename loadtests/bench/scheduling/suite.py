"""The workloads of the suite by name, and the simulated runs over one half of them, as values. It runs nothing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Final, NamedTuple

from loadtests.bench.scheduling.halves import Half, half_of, seed_of
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


class SuiteRun(NamedTuple):
    """One policy on one half of one workload."""

    workload: str
    half: Half
    policy: str
    case: Case
    requests: int | None = None
    """Only this number of first requests; None for all."""


def suite_runs(
    workloads: Sequence[str], policies: Sequence[str], rates: Sequence[float], half: Half, base: Case
) -> Iterator[SuiteRun]:
    """Every policy on every workload at every rate."""
    for workload in workloads:
        for rate in rates:
            for policy in policies:
                yield SuiteRun(workload, half, policy, base._replace(rate=rate))


@cache
def workload(folder: Path, name: str, half: Half, seed: int) -> Trace:
    """One half of a workload. Raises TraceError for an unknown name; OSError."""
    if name in WORKLOADS:
        return trace_of(name, seed=seed_of(seed, half))
    file = RECORDED.get(name)
    if file is None:
        raise TraceError(f"{name}: no such workload; there are {', '.join(NAMES)}")
    return half_of(read_trace(folder / file, seed=seed), half)
