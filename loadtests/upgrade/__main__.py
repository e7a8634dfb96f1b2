"""`python -m loadtests.upgrade`: rolls replicas that share their state, and then replicas that share nothing, under
load. Prints a table; `--json FILE` writes all numbers. Exit status 1 if the shared run lost a request.
"""

from __future__ import annotations

import argparse
import dataclasses
import resource
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import uvloop

from loadtests.processes import redis_server
from loadtests.report.files import write_json
from loadtests.upgrade import haproxy
from loadtests.upgrade.fleet import Fleet, Plan
from loadtests.upgrade.load import Mix
from loadtests.upgrade.report import Summary, as_json, summary, table
from loadtests.upgrade.roll import Times, play, to_stderr

RUNS = {"shared state": True, "nothing shared": False}
OPEN_FILES = 8_000


def run(plan: Plan, mix: Mix, times: Times, directory: Path, say: Callable[[str], None] = to_stderr) -> Summary:
    """One run in `directory`, which keeps the logs."""
    with Fleet(plan, directory) as fleet:
        return summary(uvloop.run(play(fleet, mix, times, say)))


def options(argv: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m loadtests.upgrade", description=__doc__.partition("\n\n")[0])
    parser.add_argument("--only", choices=[*RUNS], help="one of the two runs")
    parser.add_argument("--policy", default=Plan().policy)
    parser.add_argument("--pods", type=int, default=Plan().pods)
    parser.add_argument("--rounds", type=int, default=Plan().rounds, help="rolls of each replica")
    parser.add_argument("--talkers", type=int, default=Mix().talkers, help="conversations at a time")
    parser.add_argument("--askers", type=int, default=Mix().askers, help="users with single questions")
    parser.add_argument("--listeners", type=int, default=Mix().listeners, help="streams of a minute at a time")
    parser.add_argument("--requests", type=int, default=Times().requests, help="minimum in a run")
    parser.add_argument("--json", type=Path, help="write all numbers here")
    parser.add_argument("--keep", type=Path, help="keep the processes' logs here")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Run, print and write."""
    given = options(argv)
    missing = [name for name, where in (("haproxy", haproxy), ("redis-server", redis_server)) if not where.program()]
    if missing:
        sys.stderr.write(f"not installed: {', '.join(missing)} (Debian: apt-get install haproxy redis-server)\n")
        return 2
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(OPEN_FILES, most), most))
    plan = Plan(pods=given.pods, policy=given.policy, rounds=given.rounds)
    mix = Mix(talkers=given.talkers, askers=given.askers, listeners=given.listeners)
    times = Times(requests=given.requests)
    found: dict[str, Summary] = {}
    for name in [given.only] if given.only else RUNS:
        to_stderr(f"{name}:")
        with tempfile.TemporaryDirectory(prefix="turnout-upgrade-") as temporary:
            directory = given.keep / name.replace(" ", "-") if given.keep else Path(temporary)
            directory.mkdir(parents=True, exist_ok=True)
            found[name] = run(dataclasses.replace(plan, shared=RUNS[name]), mix, times, directory)
    sys.stdout.write(table(found) + "\n")
    write_json(given.json, as_json(found))
    lost = found.get("shared state")
    return int(lost is not None and bool(lost.failed or lost.truncated))


if __name__ == "__main__":
    raise SystemExit(main())
