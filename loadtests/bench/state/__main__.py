"""`make bench-state`: run the cases, print the tables, write state.json and state.md."""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from loadtests.bench.state.cases import SMOKE, Sizes, crowd, server, steady, warm_start
from loadtests.bench.state.fleet import ReplicaFailed
from loadtests.bench.state.report import Table, as_json, document, misses
from loadtests.processes import redis_server
from loadtests.report import files, machine

CASES = {"steady": steady, "warm": warm_start, "crowd": crowd}
NOT_OURS = ("load generator", "libraries")


def options(argv: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m loadtests.bench.state", description=__doc__)
    parser.add_argument("--smoke", action="store_true", help="a little of everything, in a few seconds")
    parser.add_argument("--only", choices=[*CASES], action="append", help="this case; may be given again")
    parser.add_argument("--seconds", type=float, help="of load")
    parser.add_argument("--rates", type=_rates, metavar="R,R,...", help="requests a second, on each of two replicas")
    parser.add_argument("--out", type=Path, metavar="DIR", help="write state.json and state.md there")
    return parser.parse_args(argv)


def _rates(text: str) -> tuple[float, ...]:
    return tuple(float(each) for each in text.split(","))


async def measure(sizes: Sizes, names: Sequence[str], directory: Path) -> list[Table]:
    """The cases, one after another."""
    tables = []
    for name in names:
        sys.stderr.write(f"bench-state: {name}\n")
        tables.append(await CASES[name](sizes, directory))
    return tables


def about(directory: Path) -> dict[str, str]:
    """Machine and versions."""
    with server(directory) as (_, witness):
        version = witness.version()
    described = machine.description(sys.executable)
    return {**{name: value for name, value in described.items() if name not in NOT_OURS}, "Redis": version}


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and report: 0, or 1 when a goal was missed, or 2 when it could not run."""
    chosen = options(argv)
    if redis_server.program() is None:
        sys.stderr.write("bench-state: not installed: redis-server (Debian: apt-get install redis-server)\n")
        return 2
    sizes = SMOKE if chosen.smoke else Sizes()
    sizes = sizes._replace(seconds=chosen.seconds or sizes.seconds, rates=chosen.rates or sizes.rates)
    with tempfile.TemporaryDirectory(prefix="turnout-state-") as name:
        described = about(Path(name))
        try:
            tables = asyncio.run(measure(sizes, chosen.only or [*CASES], Path(name)))
        except ReplicaFailed as error:
            sys.stderr.write(f"bench-state: {error}\n")
            return 2
    described["load average at end"] = machine.load_average()
    text = document(described, tables)
    sys.stdout.write(text)
    files.write(chosen.out, "state", text, as_json(described, tables))
    return int(any(misses(table) for table in tables))


if __name__ == "__main__":
    sys.exit(main())
