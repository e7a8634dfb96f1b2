"""`make bench-scheduling`: plays every case, prints each number with its goal, writes scheduling.json and .md."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from loadtests.bench.scheduling.cases import OURS, SMOKE, Job, Sizes, jobs
from loadtests.bench.scheduling.goals import goals
from loadtests.bench.scheduling.kept import KeptRows
from loadtests.bench.scheduling.live import Agreement, agreement, slice_of
from loadtests.bench.scheduling.play import TRACES, How, play, recorded
from loadtests.bench.scheduling.regret import SUITE, Suite
from loadtests.bench.scheduling.report import MARKS, Found, as_json, document, live_table, readme_block
from loadtests.bench.scheduling.saturation import saturation
from loadtests.processes.owned import NotReady
from loadtests.report import files, machine
from loadtests.report.goals import goal_table
from loadtests.report.tables import between
from loadtests.sim.simulate.summary import Row
from loadtests.sim.simulate.traces import TraceError

PROCESSES = 2
PARTS = (SUITE, "speeds", "whole", "replicas", "herding", "closed", "restart")
LIVE_PODS = 4
LIVE_RATE = 0.7
"""Factor on the conversation trace's rate: low enough for four pods, a gateway and a client on two cores."""


def options(argv: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m loadtests.bench.scheduling", description=__doc__)
    add = parser.add_argument
    add("--smoke", action="store_true", help="a little of everything, in a few seconds; its numbers mean nothing")
    add("--only", choices=PARTS, action="append", help="this part; may be given again")
    add("--no-live", action="store_true", help="leave out the comparison in real time")
    add("--folder", type=Path, default=TRACES, metavar="DIR", help="where the recorded traces are")
    add("--processes", type=int, default=min(PROCESSES, os.cpu_count() or 1), metavar="N")
    add("--seed", type=int, default=0, metavar="S")
    add("--kept", type=Path, metavar="DIR", help="keep rows there, and play only what changed since they were kept")
    add("--out", type=Path, metavar="DIR", help="write scheduling.json and scheduling.md there")
    add("--readme", type=Path, metavar="FILE", help="renew the marked block of that file")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and report: 0, or 1 when a goal was missed, or 2 when it could not run."""
    given = options(argv)
    sizes = SMOKE if given.smoke else Sizes()
    only = f' ARGS="{" ".join(f"--only {part}" for part in given.only)}"' if given.only else ""
    about = {"command": f"make bench-scheduling{only}", "seed": str(given.seed), "commit": machine.commit()}
    started = time.monotonic()
    try:
        chosen = [job for job in jobs(sizes, given.seed) if not given.only or job.part in given.only]
        limits = {name: saturation(name, "report").limit_s for name in sizes.workloads}
        how = How(given.folder, given.processes, KeptRows(given.kept))
        kept = sum(how.kept.find(job) is not None for job in chosen)
        rows = play(chosen, sizes, how, _progress(len(chosen)))
        live = None if given.no_live or not sizes.live_s else _live(sizes, given.folder, given.seed)
    except (TraceError, NotReady, OSError) as error:
        sys.stderr.write(f"bench-scheduling: {error}\n")
        return 2
    about["took"] = f"{time.monotonic() - started:.0f} s of {given.processes} processes"
    if kept:
        about["took"] += f"; {kept} of {len(chosen)} runs were kept from an earlier run"
    suite = Suite(sizes.points(), sizes.held, limits if not given.only or SUITE in given.only else {})
    found = Found(about, sizes, suite, rows, live, goals(rows, suite, live))
    sys.stdout.write(goal_table(found.goals) + "\n" + (f"\n{live_table(live)}\n" if live else ""))
    whole = not given.only or SUITE in given.only  # without it there is no table for the README
    _write(found, given.out, given.readme if whole else None)
    return int(not given.smoke and not all(goal.met for goal in found.goals))


def _live(sizes: Sizes, traces: Path, seed: int) -> Agreement:
    sys.stderr.write(f"bench-scheduling: {sizes.live_s:.0f} s in real time\n")
    trace = slice_of(recorded(traces, "conversation", sizes.requests, seed), LIVE_RATE, sizes.live_s)
    with tempfile.TemporaryDirectory(prefix="turnout-live-") as name:
        return agreement(trace, OURS, LIVE_PODS, Path(name), seed=seed)


def _progress(total: int) -> Callable[[Job, Row], None]:
    done = 0

    def report(job: Job, row: Row) -> None:
        nonlocal done
        done += 1
        sys.stderr.write(f"bench-scheduling: {done} of {total}: {job.part}, {job.label}, {job.policy}: {_brief(row)}\n")

    return report


def _brief(row: Row) -> str:
    return f"mean {row.ttft_s.mean:.3f}, p99 {row.ttft_s.p99:.2f}, hits {row.hit_rate:.1%}"


def _write(found: Found, out: Path | None, readme: Path | None) -> None:
    text = document(found)
    if out is None:
        sys.stdout.write(f"\n{text}")
    else:
        files.write(out, "scheduling", text, as_json(found))
    if readme is not None:
        readme.write_text(between(readme.read_text(), *MARKS, readme_block(found)))


if __name__ == "__main__":
    sys.exit(main())
