"""`python -m loadtests.bench.failover`: CPU time of streams that outlive their pod (`mid_stream`) and their replica
(`resume`), beside the same without.

Prints two tables; `--out DIR` writes `failover.json` and `failover.md` there as well. `--python` is that of the
gateway, while the steps are timed in this process.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median

from loadtests.bench.failover.measure import MODES, TOKENS, Plan, Window, steps, windows
from loadtests.bench.load import cores
from loadtests.bench.load.result import LoadFailed
from loadtests.processes.owned import NotReady
from loadtests.report import files, machine
from loadtests.report.tables import facts, grid


def added(found: Sequence[Window], mode: str) -> float:
    """What a mode adds to a chunk, as a share: the median over the rounds, in each of which both were measured."""
    by = {(window.mode, window.round): window.chunk_us for window in found}
    return median([us / by["off", number] - 1 for (of, number), us in by.items() if of == mode])


def tables(found: Sequence[Window], taken: Mapping[str, float]) -> str:
    """In Markdown."""
    rows = []
    for mode in dict.fromkeys(window.mode for window in found):
        mine = [window for window in found if window.mode == mode]
        chunk, redis = (median([getattr(each, name) for each in mine]) for name in ("chunk_us", "redis_us"))
        rss = max(each.rss_bytes for each in mine) / 1e6
        rows.append((mode, f"{chunk:.1f}", f"{added(found, mode):+.0%}", f"{redis:.1f}", f"{rss:.0f}"))
    first = grid(("failover", "CPU a chunk, us", "added", "CPU of Redis a chunk, us", "memory, MB"), rows)
    return first + "\n" + grid(("step", "CPU, us"), [(name, f"{us:.1f}") for name, us in taken.items()])


def page(about: Mapping[str, str], plan: Plan, text: str) -> str:
    """The document."""
    return f"""# What failover costs

Made by `python -m loadtests.bench.failover`: {plan.case.title}, of 64 chunks each, from canned engines; the gateway on
one core, Redis, engines and load on another. Medians of {plan.rounds} rounds. The steps are those of a chat of 4 KB
that moves after {TOKENS} tokens.

{text}

{facts("machine", about)}
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print, write. 1: a stream failed."""
    usual = Plan()
    parser = argparse.ArgumentParser(prog="python -m loadtests.bench.failover", description=__doc__)
    parser.add_argument("--rounds", type=int, default=usual.rounds)
    parser.add_argument("--seconds", type=int, default=usual.seconds, help="of each load")
    parser.add_argument("--modes", nargs="+", choices=[*MODES], default=usual.modes, help="off is among them always")
    parser.add_argument("--python", default=sys.executable, help="of the gateway")
    parser.add_argument("--out", type=Path, help="write failover.json and failover.md into this folder")
    chosen = parser.parse_args(argv)
    taken = steps()
    cores.prepare()
    plan = Plan(chosen.rounds, chosen.seconds, chosen.python, modes=tuple(dict.fromkeys(("off", *chosen.modes))))
    with tempfile.TemporaryDirectory(prefix="turnout-failover-") as directory:
        try:
            found = list(windows(plan, Path(directory)))
        except (NotReady, LoadFailed) as error:
            raise SystemExit(str(error)) from None
    text = tables(found, taken)
    sys.stdout.write(text + "\n")
    about = machine.description(chosen.python)
    numbers = {"machine": about, "windows": [each._asdict() for each in found], "steps_us": taken}
    files.write(chosen.out, "failover", page(about, plan, text), numbers)
    return int(any(window.wrong for window in found))


if __name__ == "__main__":
    sys.exit(main())
