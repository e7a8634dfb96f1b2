"""The bench's command line: which cases and routers, how often, how long, and where the report goes.

`python -m loadtests.bench` runs everything in about ten minutes; `--smoke` runs the smallest case beside nginx in less
than one. Every process it starts is ended by its pid, on Ctrl-C as well.
"""

from __future__ import annotations

import argparse
import fnmatch
import os
import resource
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from loadtests.bench.load import cores
from loadtests.bench.load.cases import CASES, SMOKE, Case
from loadtests.bench.routers import markdown
from loadtests.bench.routers.peers import PEERS
from loadtests.bench.routers.run import Bench, say
from loadtests.bench.routers.samples import as_json, peers_of
from loadtests.processes.owned import NotReady
from loadtests.report import files, machine

LIMIT_S = 1800.0
"""Limit of a whole run, for what hangs."""
OPEN_FILES = 15_000
SMOKE_PEERS = ("nginx", "turnout")


class Plan(NamedTuple):
    """The cases and peers of a run."""

    cases: list[Case]
    peers: list[str]


def plan(chosen: argparse.Namespace) -> Plan:
    """Cases and peers of the command line. Raises ValueError for a name that matches neither."""
    cases = [SMOKE] if chosen.smoke else [*CASES.values()]
    peers = [*SMOKE_PEERS] if chosen.smoke else [*PEERS]
    known = [*(case.name for case in cases), *peers, "direct"]
    for pattern in chosen.only:
        if not fnmatch.filter(known, pattern):
            raise ValueError(f"{pattern!r} is neither a case nor a router; there are {', '.join(known)}")
    wanted = [case for case in cases if _fits(case.name, chosen.only)]
    named = [peer for peer in [*peers, "direct"] if _fits(peer, chosen.only)]
    measured = [_with(case, chosen) for case in wanted or cases]
    return Plan(measured, [peer for peer in named or peers if peer != "direct"])


def _fits(name: str, patterns: Sequence[str]) -> bool:
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)


def _with(case: Case, chosen: argparse.Namespace) -> Case:
    return case._replace(repeats=chosen.repeats or case.repeats, seconds=chosen.seconds or case.seconds)


def options(argv: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m loadtests.bench", description=__doc__)
    parser.add_argument("--smoke", action="store_true", help="one small case beside nginx, in less than a minute")
    parser.add_argument(
        "--only",
        type=lambda text: text.split(","),
        default=[],
        metavar="NAMES",
        help=f"comma-separated, with * and ?: cases ({', '.join(CASES)}) and routers ({', '.join(PEERS)})",
    )
    parser.add_argument("--repeats", type=int, help="of every case, instead of its own number")
    parser.add_argument("--seconds", type=int, help="of load, per router and repeat")
    parser.add_argument("--python", default=sys.executable, help="runs this gateway; default: the one that runs this")
    parser.add_argument("--out", type=Path, metavar="DIR", help="write routers.json and routers.md there")
    return parser.parse_args(argv)


def prepare() -> None:
    """Ready this process: on the load's core, with room for thousands of connections."""
    if not cores.prepare():
        say("bench: needs two cores and taskset to keep router and load apart; without them ratios say less")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, OPEN_FILES)), hard))


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and report. 0: every request was answered with success; 1: some were not; 2: it could not run."""
    chosen = options(argv)
    try:
        planned = plan(chosen)
    except ValueError as error:
        say(f"bench: {error}")
        return 2
    if shutil.which("wrk") is None:
        say("bench: the load generator `wrk` is not installed (Debian: apt-get install wrk)")
        return 2
    affinity = os.sched_getaffinity(0)
    about = machine.description(chosen.python)
    prepare()
    try:
        with tempfile.TemporaryDirectory(prefix="turnout-bench-") as name:
            bench = Bench(Path(name), time.monotonic() + LIMIT_S, chosen.python)
            for case in planned.cases:
                bench.case(case, [peer for peer in planned.peers if PEERS[peer].streams or not case.stream])
    except NotReady as error:
        say(f"bench: {error}")
        return 2
    finally:
        os.sched_setaffinity(0, affinity)
    return report(about, planned, bench, chosen.out)


def report(about: dict[str, str], planned: Plan, bench: Bench, out: Path | None) -> int:
    """Print the tables and write the files; returns 0 if every request was answered with success."""
    about["load average at end"] = machine.load_average()
    measured = [peer for peer in peers_of(bench.samples) if peer in PEERS]
    peers = {peer: (PEERS[peer].version(), PEERS[peer].what) for peer in measured}
    text = markdown.document(about, peers, bench.missing, planned.cases, bench.samples)
    sys.stdout.write(text)
    versions = {peer: version for peer, (version, _) in peers.items()}
    files.write(out, "routers", text, as_json(about, versions, bench.missing, bench.samples))
    return int(not bench.samples or any(one.load.failed or one.load.bad_status for one in bench.samples))


if __name__ == "__main__":
    sys.exit(main())
