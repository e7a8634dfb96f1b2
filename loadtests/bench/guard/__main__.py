"""The guard's command line: count, show the difference to the baseline, exit 1 where it is too much.

It is no timed test: the same code gives the same counts on a busy machine. What it cannot see is waiting, system calls
and cache misses; those are the bench's.
"""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import sys
from collections.abc import Sequence

from loadtests.bench.guard import baseline
from loadtests.bench.guard.baseline import Counts
from loadtests.bench.guard.counting import CountingFailed, count
from loadtests.bench.guard.valgrind import MACHINES

AGAIN = "make guard-baseline, and commit it with the reason"


def key() -> str:
    """The key of the baseline for this machine."""
    return f"python {platform.python_version()} {platform.machine()}"


def say(text: str) -> None:
    """Print a line."""
    sys.stdout.write(f"guard: {text}\n")


def obstacle() -> str:
    """Why counting is impossible on this machine; empty if it is possible."""
    if platform.machine() not in MACHINES:
        return f"counts only on {', '.join(MACHINES)}, this is {platform.machine()}"
    if shutil.which("valgrind") is None:
        return "valgrind is not installed (Debian: apt-get install valgrind)"
    return ""


def judge(now: Counts, before: Counts | None) -> int:
    """Print the changes; returns 1 if a count grew by too much."""
    rows = baseline.changes(before or Counts(now.calibration, {}), now)
    sys.stdout.write(baseline.table(rows) + "\n")
    if before is None:
        say(f"NOT JUDGED: no baseline for {key()}; where there should be one: {AGAIN}")
        return 0
    if not baseline.comparable(before, now):
        drift = now.calibration / before.calibration - 1
        say(f"NOT JUDGED: this {key()} is another build than the baseline's (work that is not ours: {drift:+.1%})")
        return 0
    grown = [row.name for row in rows if row.too_much]
    if grown:
        say(f"more than {baseline.LIMIT:.0%} over the baseline: {'; '.join(grown)}. If it must be: {AGAIN}")
    elif any(row.share < -baseline.LIMIT for row in rows):
        say(f"well below the baseline. To keep it so: {AGAIN}")
    return int(bool(grown))


def main(argv: Sequence[str] | None = None) -> int:
    """Count and judge. 0: within the limit, or not comparable; 1: a count grew by too much; 2: counting failed."""
    parser = argparse.ArgumentParser(prog="python -m loadtests.bench.guard", description=__doc__)
    parser.add_argument("--write-baseline", action="store_true", help="make what is counted now the baseline")
    chosen = parser.parse_args(argv)
    if (reason := obstacle()) != "":
        say(f"NOT RUN: {reason}")
        return 2 if os.environ.get("CI") == "true" else 0
    try:
        now = count()
    except CountingFailed as error:
        say(str(error))
        return 2
    status = judge(now, baseline.load(key()))
    if chosen.write_baseline:
        baseline.save(key(), now)
        say(f"this is the baseline of {key()} now")
        return 0
    return status


if __name__ == "__main__":
    sys.exit(main())
