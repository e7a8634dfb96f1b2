"""What keys, limits and fairness add to a request, and what traces do: CPU time, in one process, in turns. Each round
plays the same requests with each, and what is added is the median over the rounds: a busy machine matters little.
`python -m loadtests.bench.guard.paired`
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from loadtests.bench.guard.script import PHASES, Phase, Stage, turns
from loadtests.bench.guard.wires import MemoryLoop
from loadtests.processes.owned import ANY_CORE, Owned, wait_until_ready
from loadtests.report import machine
from loadtests.report.figures import quartiles
from loadtests.report.tables import facts, grid
from loadtests.sim.ports import HOST, free_ports

PLAIN, TENANT, TRACED = ARMS = ("plain", "keys, limits, fairness", "traces, 1 % sampled")
WARM: Final = 200
PLAYED: Final = {phase.name: phase for phase in PHASES if phase.name in ("whole 1.2 KB", "stream of 64")}

Costs = dict[str, list[float]]
"""By arm: CPU time of a request in each round, in us, all threads included."""


async def measured(phase: Phase, rounds: int, count: int, collector: str) -> Costs:
    """Play `count` requests with each arm in each round, each round beginning with another arm."""
    stages = {PLAIN: Stage(), TENANT: Stage(limited=True), TRACED: Stage(traced=collector)}
    for stage in stages.values():
        await stage.play(turns(phase, WARM))
    costs: Costs = {arm: [] for arm in ARMS}
    for number in range(rounds):
        script = turns(phase, count, first=WARM + number * count)
        first = number % len(ARMS)
        for arm in ARMS[first:] + ARMS[:first]:
            began = time.process_time()
            await stages[arm].play(script)
            costs[arm].append((time.process_time() - began) / count * 1e6)
    for stage in stages.values():
        await stage.close()
    return costs


def table(found: dict[str, Costs]) -> str:
    """What each adds to a plain request."""
    rows = []
    for name, costs in found.items():
        plain = costs[PLAIN]
        rows.append((name, "all of it", *(f"{each:.1f}" for each in quartiles(plain)), ""))
        for arm in ARMS[1:]:
            added = quartiles([mine - base for mine, base in zip(costs[arm], plain, strict=True)])
            share = 100 * added[1] / quartiles(plain)[1]
            rows.append((name, f"added by {arm}", *(f"{each:+.1f}" for each in added), f"{share:+.1f} %"))
    return grid(("requests", "CPU time, us", "lower quartile", "median", "upper quartile", "of a request"), rows)


def main(argv: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m loadtests.bench.guard.paired", description=__doc__)
    parser.add_argument("--rounds", type=int, default=61)
    parser.add_argument("--turns", type=int, default=300, help="requests of each arm in a round")
    chosen = parser.parse_args(argv)
    found = {}
    with tempfile.TemporaryDirectory(prefix="turnout-paired-") as directory:
        (port,) = free_ports(1)
        command = [sys.executable, "-m", "loadtests.bench.load.canned", str(port)]
        with Owned(command, ANY_CORE, Path(directory) / "collector.log") as collector:
            wait_until_ready(collector, f"http://{HOST}:{port}/health")
            for name, phase in PLAYED.items():
                with asyncio.Runner(loop_factory=MemoryLoop) as runner:
                    made = measured(phase, chosen.rounds, chosen.turns, f"http://{HOST}:{port}")
                    found[name] = runner.run(made)
    about = machine.description(sys.executable)
    about.pop("load generator")
    sys.stdout.write(f"{table(found)}\n\n{facts('machine', about)}\n")


if __name__ == "__main__":
    main()
