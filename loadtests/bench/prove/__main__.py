"""`python -m loadtests.bench.prove`: runs of a version against itself, then the ten regressions; resumable.

Each run is `turnout prove` as a user starts it, and leaves its numbers in a file; a run whose file is there is not
repeated. Exit status 1 if a run against itself was not passed, or a regression was not called one.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from loadtests.bench.prove.regressions import REGRESSIONS, ROOT, copy_with
from loadtests.report import files
from loadtests.report.machine import description
from loadtests.report.tables import facts, grid

SELF_RUNS = 20
MOST_S = 1200.0
WHY_LETTERS = 100
PAGE = """\
# What `turnout prove` finds

`make prove-check` runs [`turnout prove`](../upgrades.md) for a version against itself, where any verdict but "pass" is
a false alarm, and against copies of that version with one seeded regression each
(`loadtests/bench/prove/regressions.py`), where any verdict but "regression" is a miss. The copies run on the same
Python with the same libraries; nothing but the named change differs. The time is that of the whole run, on a machine of
two cores that also did other work.

{table}

{machine}
"""


def cases(self_runs: int) -> list[str]:
    """The names of all runs, in order."""
    return [*(f"same-{at + 1:02}" for at in range(self_runs)), *REGRESSIONS]


def run(name: str, kept: Path, say: Callable[[str], None]) -> dict[str, Any]:
    """One run, or what is kept of it."""
    found = kept / f"{name}.json"
    if not found.exists():
        say(name)
        with tempfile.TemporaryDirectory(prefix="turnout-prove-check-") as directory:
            new = copy_with(name, Path(directory)) if name in REGRESSIONS else ROOT
            command = [sys.executable, "-m", "loadtests.prove.command", str(ROOT), str(new), "--json", str(found)]
            subprocess.run(command, cwd=ROOT, check=False, timeout=MOST_S, stdout=sys.stderr)
    read: dict[str, Any] = json.loads(found.read_text())
    say(f"{name}: {read['verdict']} after {read['took_s']:.0f} s")
    return read


def _say(line: str) -> None:
    sys.stderr.write(line + "\n")


def report(found: dict[str, dict[str, Any]]) -> str:
    """The results as a page."""
    rows = [
        (
            name,
            REGRESSIONS[name].what if name in REGRESSIONS else "the same version twice",
            each["verdict"],
            f"{each['took_s']:.0f} s",
            _why(each["findings"]),
        )
        for name, each in found.items()
    ]
    return grid(("run", "NEW", "verdict", "time", "why"), rows)


def _why(findings: Sequence[Mapping[str, Any]]) -> str:
    """The first reason against NEW, cut to a table's width."""
    reasons = [f"{each['what']}: {each['words']}" for each in findings if each["verdict"] != "pass"]
    return reasons[0].partition("; for example")[0][:WHY_LETTERS] if reasons else ""


def right(name: str, verdict: str) -> bool:
    """Whether this is the verdict that the run should have."""
    return verdict == ("regression" if name in REGRESSIONS else "pass")


def main(argv: Sequence[str] | None = None) -> int:
    """Run what is not kept, print, and write the page."""
    parser = argparse.ArgumentParser(prog="python -m loadtests.bench.prove", description=__doc__.partition("\n\n")[0])
    parser.add_argument("--kept", type=Path, default=Path("build/prove"), metavar="DIR", help="a file for each run")
    parser.add_argument("--same", type=int, default=SELF_RUNS, help="runs of the version against itself (%(default)s)")
    parser.add_argument("--only", type=lambda text: text.split(","), metavar="NAME,...", help="these runs")
    parser.add_argument("--out", type=Path, metavar="DIR", help="write prove.md and prove.json here")
    given = parser.parse_args(argv)
    given.kept.mkdir(parents=True, exist_ok=True)
    kept = given.kept.absolute()
    found = {name: run(name, kept, _say) for name in given.only or cases(given.same)}
    page = report(found)
    sys.stdout.write(page + "\n")
    about = facts("machine", description(sys.executable))
    numbers = {name: {key: each[key] for key in ("verdict", "took_s", "findings")} for name, each in found.items()}
    files.write(given.out, "prove", PAGE.format(table=page, machine=about), numbers)
    return int(not all(right(name, each["verdict"]) for name, each in found.items()))


if __name__ == "__main__":
    raise SystemExit(main())
