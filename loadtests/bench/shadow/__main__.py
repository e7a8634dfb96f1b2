"""`make bench-shadow`: CPU time a request with and without a shadow and a canary, interleaved in one run.

Prints a table; `--out DIR` writes `shadow.json` and `shadow.md` there as well.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from loadtests.bench.load import cores
from loadtests.bench.load.result import LoadFailed
from loadtests.bench.shadow.measure import Plan, windows
from loadtests.bench.shadow.report import as_json, page, table
from loadtests.processes.owned import NotReady
from loadtests.report import files, machine


def options(argv: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    usual = Plan()
    parser = argparse.ArgumentParser(prog="python -m loadtests.bench.shadow", description=__doc__)
    parser.add_argument("--rounds", type=int, default=usual.rounds, help="windows of each kind")
    parser.add_argument("--seconds", type=int, default=usual.seconds, help="a window")
    parser.add_argument("--python", default=sys.executable, help="of the gateway")
    parser.add_argument("--out", type=Path, help="write shadow.json and shadow.md into this folder")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, print, write."""
    chosen = options(argv)
    cores.prepare()
    about, found = machine.description(chosen.python), []
    with tempfile.TemporaryDirectory(prefix="turnout-shadow-") as directory:
        try:
            for window in windows(Plan(chosen.rounds, chosen.seconds, chosen.python), Path(directory)):
                sys.stderr.write(f"{window.round}/{chosen.rounds} {window.mode:>7}: {window.cpu_us:.2f} us/request\n")
                found.append(window)
        except (NotReady, LoadFailed) as error:
            raise SystemExit(str(error)) from None
    sys.stdout.write(table(found) + "\n")
    files.write(chosen.out, "shadow", page(about, found), as_json(about, found))


if __name__ == "__main__":
    main()
