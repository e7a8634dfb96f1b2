"""Plays the jobs in several processes; each returns a row of numbers, which `goals.py` judges."""

from __future__ import annotations

import multiprocessing
import random
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from functools import cache, partial
from pathlib import Path
from typing import Final, NamedTuple

from loadtests.bench.scheduling.cases import Job, Sizes
from loadtests.bench.scheduling.kept import NONE_KEPT, KeptRows
from loadtests.bench.scheduling.regret import Rows
from loadtests.bench.scheduling.suite import RECORDED, SuiteRun, workload
from loadtests.sim.simulate.contenders import contender
from loadtests.sim.simulate.runs import Case, Run, new_world, simulate
from loadtests.sim.simulate.sessions import agentic, converse
from loadtests.sim.simulate.summary import Row, summarise
from loadtests.sim.simulate.traces import MOONCAKE_UNIT_TOKENS, Arrival, Trace, read_trace

TRACES: Final = Path(__file__).parents[2] / "traces"


class How(NamedTuple):
    """With what the jobs are played."""

    traces: Path = TRACES
    """The folder."""
    processes: int = 1
    kept: KeptRows = NONE_KEPT


def play(jobs: Sequence[Job], sizes: Sizes, how: How, done: Callable[[Job, Row], None]) -> Rows:
    """Every job's row; `done` is called with each. Raises what a run raises; TraceError, OSError."""
    # New interpreters, without this process's threads and open files.
    context = multiprocessing.get_context("spawn")
    rows: dict[tuple[str, str, str], Row] = {}

    def found(job: Job, row: Row) -> None:
        rows[job.part, job.label, job.policy] = row
        done(job, row)

    kept = {job: row for job in jobs if (row := how.kept.find(job))}
    for job, row in kept.items():
        found(job, row)
    with ProcessPoolExecutor(how.processes, mp_context=context) as pool:
        waiting = {pool.submit(one, job, sizes, how.traces): job for job in jobs if job not in kept}
        for future in as_completed(waiting):
            how.kept.keep(waiting[future], future.result())
            found(waiting[future], future.result())
    return rows


def one(job: Job, sizes: Sizes, traces: Path) -> Row:
    """One run."""
    if job.suite is not None:
        return suite_row(job.suite, traces)
    run = _PARTS.get(job.part, _recorded)(job, sizes, traces)
    return summarise(run, job.case)


def suite_row(run: SuiteRun, traces: Path) -> Row:
    """One run, by the requests that clients wait for: those of a batch, of a priority below 0, are left out. Raises
    TraceError, OSError."""
    trace = workload(traces, run.workload, run.half, run.case.seed)
    if run.requests is not None:
        trace = trace.first(run.requests)
    found = simulate(trace, run.policy, run.case)
    waited_for = [each for each in found.outcomes if each.priority >= 0 and each.at_s >= run.since_s]
    return summarise(found._replace(outcomes=waited_for), run.case)


def _recorded(job: Job, sizes: Sizes, traces: Path) -> Run:
    return simulate(recorded(traces, "conversation", sizes.replica_requests, job.case.seed), job.policy, job.case)


def _whole(job: Job, sizes: Sizes, traces: Path) -> Run:
    name = job.label.partition(" x ")[0]
    return simulate(recorded(traces, name, sizes.requests, job.case.seed), job.policy, job.case)


def _herding(job: Job, sizes: Sizes, traces: Path) -> Run:
    return simulate(crowd(traces, sizes.herd_requests, sizes.herd_rate, job.case.seed), job.policy, job.case)


def _closed(job: Job, sizes: Sizes, traces: Path) -> Run:
    case: Case = job.case
    world = new_world(case, MOONCAKE_UNIT_TOKENS)
    router = contender(job.policy)(world, MOONCAKE_UNIT_TOKENS, case.sharing, case.seed)
    outcomes = converse(world, agentic(sizes.shape, MOONCAKE_UNIT_TOKENS, seed=case.seed), router)
    return Run(job.policy, outcomes, world.rejected, (), world.now)


_PARTS: Final[Mapping[str, Callable[[Job, Sizes, Path], Run]]] = {
    "whole": _whole,
    "herding": _herding,
    "closed": _closed,
}
"""How a part's jobs are played; all other parts replay the conversations."""


@cache
def recorded(traces: Path, name: str, requests: int | None, seed: int) -> Trace:
    """A whole recorded trace, or its first `requests`."""
    whole = read_trace(traces / RECORDED[name], seed=seed)
    return whole if requests is None else whole.first(requests)


@cache
def crowd(traces: Path, requests: int, rate: float, seed: int) -> Trace:
    """Azure's lengths in their order, with independent arrivals at that rate a second."""
    lengths = recorded(traces, "azure_chat", requests, seed)
    gap = partial(random.Random(seed).expovariate, rate)
    moment, arrivals = 0.0, list[Arrival]()
    for each in lengths.arrivals:
        arrivals.append(each._replace(at_s=moment))
        moment += gap()
    return lengths._replace(arrivals=arrivals)
