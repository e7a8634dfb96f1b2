"""`python -m loadtests.bench.scheduling.find_saturation`: finds the rates of `saturation.json` anew.

Saturation is the highest rate at which the oracle or a peer still holds a p90 of time to first token of 2 s, or of
twice the p90 on an idle fleet where that is longer.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Final

import msgspec

from loadtests.bench.scheduling.halves import HALVES, Half
from loadtests.bench.scheduling.play import TRACES, suite_row
from loadtests.bench.scheduling.saturation import (
    COMMAND,
    FILE,
    Saturation,
    SaturationTable,
    read_saturations,
)
from loadtests.bench.scheduling.suite import FLEET, NAMES, REQUESTS, SuiteRun
from loadtests.report.files import write_json
from loadtests.sim.simulate.runs import Case

CONTENDERS: Final = ("llmd_default", "lmetric", "oracle", "sglang_cache_aware")
"""The peers that hold the most on some workload."""

HELD_S: Final = 2.0
IDLE: Final = 0.05
"""The rate factor of an idle fleet."""
EXACT: Final = 1.05
"""The rate that is not held, over the one that is, at most."""


def highest_held(holds: Callable[[float], bool], start: float = 1.0) -> float:
    """The highest rate that is held, to 5 %: doubled or halved from `start` to a bracket, then bisected."""
    low = high = start
    if holds(start):
        while holds(high := 2 * low):
            low = high
    else:
        while not holds(low := high / 2):
            high = low
    while high / low > EXACT:
        middle = (high * low) ** 0.5
        low, high = (middle, high) if holds(middle) else (low, middle)
    return low


def find(name: str, half: Half, traces: Path = TRACES, seed: int = 0) -> Saturation:
    """Play the contenders at rates until the highest is known. Raises TraceError, OSError."""

    def p90(policy: str, rate: float) -> float:
        run = SuiteRun(name, half, policy, Case(pods=FLEET, rate=rate, seed=seed), REQUESTS[FLEET])
        return suite_row(run, traces).ttft_s.p90

    limit = max(HELD_S, 2 * p90("oracle", IDLE))
    order = list(CONTENDERS)

    def holds(rate: float) -> bool:
        for policy in order:
            if p90(policy, rate) <= limit:
                # The next rate is most likely held by the same one.
                order.remove(policy)
                order.insert(0, policy)
                return True
        return False

    rate = highest_held(holds)
    return Saturation(round(rate, 3), round(limit, 3), order[0])


def main(argv: Sequence[str] | None = None) -> int:
    """Find the rates of these workloads, and keep them beside those of the others."""
    parser = argparse.ArgumentParser(prog=COMMAND, description=__doc__)
    parser.add_argument("--traces", type=lambda text: text.split(","), default=list(NAMES), metavar="NAME,...")
    parser.add_argument("--halves", type=lambda text: text.split(","), default=list(HALVES), metavar="HALF,...")
    parser.add_argument("--processes", type=int, default=min(2, os.cpu_count() or 1), metavar="N")
    given = parser.parse_args(argv)
    wanted = [(name, half) for half in given.halves for name in given.traces]
    table = dict(read_saturations()) if FILE.exists() else {}
    with ProcessPoolExecutor(given.processes, mp_context=multiprocessing.get_context("spawn")) as pool:
        for (name, half), found in zip(wanted, pool.map(find, *zip(*wanted, strict=True)), strict=True):
            table[f"{name}/{half}"] = found
            sys.stderr.write(f"{name}/{half}: rate {found.rate:g}, p90 within {found.limit_s:g} s by {found.by}\n")
            write_json(FILE, msgspec.to_builtins(SaturationTable(COMMAND, dict(sorted(table.items())))))
    return 0


if __name__ == "__main__":
    sys.exit(main())
