"""`python -m loadtests.chaos`: replicas, Redis and simulated engines at 70 % load, faults of all kinds in an order that
follows from a seed, and an oracle that knows every answer. Exit status 1 if an answer is false, if a request ends
without a reason, if something leaks, or if a replica logs a defect.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from loadtests.chaos.arena import Layout
from loadtests.chaos.faults import MAKING
from loadtests.chaos.plan import plan_of
from loadtests.chaos.report import as_json, lines, passed
from loadtests.chaos.run import run
from loadtests.processes import redis_server
from loadtests.report.files import write_json


def options(argv: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m loadtests.chaos", description=__doc__.partition("\n\n")[0])
    parser.add_argument("--seed", type=int, action="append", help="of a run, may be repeated (default: 1)")
    parser.add_argument("--minutes", type=float, default=10.0, help="of load in each run")
    parser.add_argument("--replicas", type=int, default=Layout().replicas)
    parser.add_argument("--only", nargs="+", default=[], choices=sorted(MAKING), help="only these kinds of faults")
    parser.add_argument("--mid-stream", action="store_true", help="with failover.mid_stream in every pool")
    parser.add_argument("--python", default=sys.executable, help="runs the replicas: one with the compiled build")
    parser.add_argument("--keep", type=Path, help="keep the processes' logs here")
    parser.add_argument("--json", type=Path, help="write all numbers here, one file a seed")
    parser.add_argument("--quiet", action="store_true", help="print the reports only")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Run, print and write."""
    given = options(argv)
    if not redis_server.program():
        sys.stderr.write("not installed: redis-server (Debian: apt-get install redis-server)\n")
        return 2
    layout = Layout(replicas=given.replicas, mid_stream=given.mid_stream, python=given.python)
    verdicts = []
    for seed in given.seed or [1]:
        plan = plan_of(seed, given.minutes * 60, only=given.only)
        sys.stdout.write(f"seed {seed}: {len(plan.faults)} faults in {plan.seconds:g} s\n")
        with _place(given.keep, seed) as directory:
            outcome = run(plan, layout, directory, (lambda line: None) if given.quiet else _say)
        sys.stdout.write("\n".join(lines(outcome)) + "\n\n")
        sys.stdout.flush()
        if given.json is not None:
            write_json(given.json.with_name(f"{given.json.stem}-{seed}.json"), as_json(outcome))
        verdicts.append(passed(outcome))
    return int(not all(verdicts))


@contextmanager
def _place(keep: Path | None, seed: int) -> Iterator[Path]:
    if keep is None:
        with tempfile.TemporaryDirectory(prefix="turnout-chaos-") as directory:
            yield Path(directory)
    else:
        place = keep / f"seed-{seed}"
        place.mkdir(parents=True)
        yield place


def _say(line: str) -> None:
    sys.stderr.write(f"  {line}\n")


if __name__ == "__main__":
    raise SystemExit(main())
