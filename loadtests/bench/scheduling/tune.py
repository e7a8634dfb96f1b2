"""`python -m loadtests.bench.scheduling.tune`: policies on the tuning halves of the suite's workloads.

Changes of a policy are measured here. It never plays a reporting half: those are for the table of
`make bench-scheduling`.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from itertools import groupby
from typing import Final

from loadtests.bench.scheduling.play import TRACES, suite_row
from loadtests.bench.scheduling.suite import NAMES, PAST, UNDER, Point, SuiteRun, suite_run
from loadtests.report.tables import grid
from loadtests.sim.simulate.contenders import contender
from loadtests.sim.simulate.runs import Case
from loadtests.sim.simulate.summary import Row
from loadtests.sim.simulate.traces import TraceError
from schedulers.errors import SchedulerError

POLICIES: Final = ("prefix_aware", "oracle", "lmetric", "llmd_default", "dynamo_kv")


def options(argv: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m loadtests.bench.scheduling.tune", description=__doc__)
    add = parser.add_argument
    add("--traces", type=_words, default=list(NAMES), metavar="NAME,...", help=f"of {', '.join(NAMES)}")
    add("--policies", type=_policies, default=POLICIES, metavar="SPEC,... or SPEC;...", help="as for turnout simulate")
    add("--loads", type=_numbers, default=[*UNDER, PAST], metavar="X,...", help="of the rate that saturates the fleet")
    add("--rates", type=_numbers, metavar="X,...", help="factors on the workloads' own rates, instead of loads")
    add("--pods", type=int, default=8, metavar="N")
    add("--limit", type=int, metavar="N", help="the first N requests, instead of as many as the suite plays")
    add("--seed", type=int, default=0, metavar="S")
    add("--processes", type=int, default=min(2, os.cpu_count() or 1), metavar="N")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Print a table for each workload and rate: 0, or 2 when it could not run."""
    given = options(argv)
    try:
        for policy in given.policies:
            contender(policy)
        runs = list(_runs(given))
        for title, rows in groupby(
            zip(runs, _played(runs, given.processes), strict=True), key=lambda each: _title(each[0])
        ):
            sys.stdout.write(f"{title}\n{table([row for _, row in rows])}\n\n")
            sys.stdout.flush()
    except (TraceError, SchedulerError, OSError) as error:
        sys.stderr.write(f"tune: {error}\n")
        return 2
    return 0


def _runs(given: argparse.Namespace) -> Iterator[SuiteRun]:
    base = Case(pods=given.pods, seed=given.seed)
    for name in given.traces:
        for at in given.rates or given.loads:
            for policy in given.policies:
                if given.rates:
                    yield SuiteRun(name, "tune", policy, base._replace(rate=at), given.limit)
                else:
                    yield suite_run(Point(name, given.pods, at), "tune", policy, base, given.limit)


def table(rows: Sequence[Row]) -> str:
    """One workload at one rate; `x best` is over the best mean and p99 of all other rows than the line's own."""
    lines = [
        [
            row.policy,
            *(f"{value:.3f}" for value in (row.ttft_s.mean, row.ttft_s.p50, row.ttft_s.p90, row.ttft_s.p99)),
            f"{row.ttft_s.mean / _best([each.ttft_s.mean for each in rows if each is not row]):.3f}",
            f"{row.ttft_s.p99 / _best([each.ttft_s.p99 for each in rows if each is not row]):.3f}",
            f"{row.hit_rate:.1%}",
        ]
        for row in rows
    ]
    return grid(["", "TTFT mean", "p50", "p90", "p99", "mean x best", "p99 x best", "hits"], lines)


def _best(others: Sequence[float]) -> float:
    return min(others, default=float("nan"))


def _played(runs: Sequence[SuiteRun], processes: int) -> Iterator[Row]:
    with ProcessPoolExecutor(processes, mp_context=multiprocessing.get_context("spawn")) as pool:
        yield from pool.map(suite_row, runs, [TRACES] * len(runs))


def _title(run: SuiteRun) -> str:
    return f"{run.workload}, tuning half, {run.case.pods} pods, rate x {run.case.rate:g}"


def _words(text: str) -> list[str]:
    return text.split(",")


def _policies(text: str) -> list[str]:
    """Separated by semicolons where one has parameters, whose own commas are no separators."""
    return text.split(";" if ";" in text or ":" in text else ",")


def _numbers(text: str) -> list[float]:
    return [float(each) for each in text.split(",")]


if __name__ == "__main__":
    sys.exit(main())
