"""`make bench-tls`: CPU time of a TLS handshake, full and resumed, and of a request under TLS, beside nginx in one run.

Prints a table; `--out DIR` writes `tls.json` and `tls.md` there as well.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Final

from loadtests.bench.load import cores
from loadtests.bench.load.result import LoadFailed
from loadtests.bench.tls.measure import KINDS, PEERS, Cost, Plan, measured
from loadtests.processes.owned import NotReady
from loadtests.report import files, machine
from loadtests.report.tables import facts, grid

PLAIN, SECURED, CONNECTION, FULL, RESUMED = KINDS

ROWS: Final = (
    ("request over a kept connection, plain", PLAIN, ""),
    ("the same over TLS", SECURED, ""),
    ("added by TLS to a request", SECURED, PLAIN),
    ("connection with one request, plain", CONNECTION, ""),
    ("added by a full handshake", FULL, CONNECTION),
    ("added by a resumed handshake", RESUMED, CONNECTION),
)
"""Title, kind of load, and the kind that is taken off within each round."""


def figure(costs: Sequence[Cost], peer: str, kind: str, less: str) -> float:
    """The median over the rounds, in us."""
    by = {(cost.kind, cost.round): cost.cpu_us for cost in costs if cost.peer == peer}
    return median([cost_us - (by[less, number] if less else 0.0) for (of, number), cost_us in by.items() if of == kind])


def table(costs: Sequence[Cost]) -> str:
    """In Markdown, CPU time of the router in us."""
    rows = []
    for title, kind, less in ROWS:
        found = [figure(costs, peer, kind, less) for peer in PEERS]
        rows.append((title, *(f"{each:.0f}" for each in found)))
    return grid(("CPU, us", *PEERS), rows)


def page(about: Mapping[str, str], costs: Sequence[Cost]) -> str:
    """The document."""
    rounds = max(cost.round for cost in costs)
    return f"""# What TLS costs

Made by `make bench-tls`: nginx and the gateway (`prefix_aware`, default settings), each with and without TLS, all on
one core; canned engines and the load on another. TLS 1.3, a P-256 certificate, 1.2 KB prompts, whole answers. Medians
of {rounds} rounds, in each of which every router had every load; a difference is taken within a round. Answers
that were missing or wrong: {sum(cost.wrong for cost in costs)}.

{table(costs)}

{facts("machine", about)}
"""


def options(argv: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    usual = Plan()
    parser = argparse.ArgumentParser(prog="python -m loadtests.bench.tls", description=__doc__)
    parser.add_argument("--rounds", type=int, default=usual.rounds)
    parser.add_argument("--seconds", type=int, default=usual.seconds, help="of requests over kept connections")
    parser.add_argument("--connections", type=int, default=usual.connections, help="of each kind in a round")
    parser.add_argument("--python", default=sys.executable, help="of the gateway")
    parser.add_argument("--out", type=Path, help="write tls.json and tls.md into this folder")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print, write. 1: an answer was missing or wrong."""
    chosen = options(argv)
    cores.prepare()
    about = machine.description(chosen.python)
    plan = Plan(chosen.rounds, chosen.seconds, chosen.connections, chosen.python)
    with tempfile.TemporaryDirectory(prefix="turnout-tls-") as directory:
        try:
            costs = list(measured(plan, Path(directory)))
        except (NotReady, LoadFailed) as error:
            raise SystemExit(str(error)) from None
    sys.stdout.write(table(costs) + "\n")
    found = {peer: {title: figure(costs, peer, *kinds) for title, *kinds in ROWS} for peer in PEERS}
    files.write(chosen.out, "tls", page(about, costs), {"machine": about, "cpu_us": found})
    return int(any(cost.wrong for cost in costs))


if __name__ == "__main__":
    sys.exit(main())
