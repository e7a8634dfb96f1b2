"""`make bench-freeze`: does a gateway's other work delay streams? Prints a table.

`--out DIR` writes `freeze.json` and `freeze.md` there as well.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from loadtests.bench.freeze.cases import CASES, NotDisturbed
from loadtests.bench.freeze.measure import Plan, run
from loadtests.bench.freeze.report import Row, as_json, table
from loadtests.bench.load import cores
from loadtests.bench.load.result import LoadFailed
from loadtests.processes import redis_server
from loadtests.processes.owned import NotReady
from loadtests.report import files, machine


def options(argv: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    usual = Plan()
    parser = argparse.ArgumentParser(prog="python -m loadtests.bench.freeze", description=__doc__)
    parser.add_argument("only", nargs="*", metavar="CASE", help=f"of {', '.join(CASES)}; all of them")
    parser.add_argument("--pods", type=int, default=usual.pods)
    parser.add_argument("--streams", type=int, default=usual.streams)
    parser.add_argument("--seconds", type=float, default=usual.seconds, help="a window")
    parser.add_argument("--rounds", type=int, default=usual.rounds, help="pairs of windows")
    parser.add_argument("--python", default=sys.executable, help="of the gateway")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    parser.add_argument("--out", type=Path, help="write freeze.json and freeze.md into this folder")
    chosen = parser.parse_args(argv)
    if unknown := set(chosen.only) - CASES.keys():
        parser.error(f"no case {', '.join(sorted(unknown))}; there are {', '.join(CASES)}")
    return chosen


def measured(chosen: argparse.Namespace) -> Iterator[Row]:
    """Case by case; one that cannot be run is reported and left out."""
    plan = Plan(chosen.pods, chosen.streams, chosen.seconds, chosen.rounds, chosen.python)
    for name in chosen.only or CASES:
        if CASES[name].redis and redis_server.program() is None:
            sys.stderr.write(f"{name}: left out: redis-server is not installed\n")
            continue
        with tempfile.TemporaryDirectory(prefix="turnout-freeze-") as directory:
            try:
                yield run(name, CASES[name], plan, Path(directory))
            except (NotReady, NotDisturbed, LoadFailed) as error:
                raise SystemExit(f"{name}: {error}") from None


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, print, write."""
    chosen = options(argv)
    cores.prepare()
    about = {"machine": machine.description(chosen.python), "pods": chosen.pods, "streams": chosen.streams}
    rows = []
    for row in measured(chosen):
        sys.stderr.write(f"{row.case}: p99 moved by {row.moved_ms:+.1f} ms, {row.cut} streams cut\n")
        rows.append(row)
    text = table(rows)
    sys.stdout.write(text + "\n")
    found = as_json(about, rows)
    files.write_json(chosen.json, found)
    files.write(chosen.out, "freeze", text + "\n", found)


if __name__ == "__main__":
    main()
