"""`make bench-fairness`: a full pool shared between tenants by real gateways, engines simulated in real time.

Prints tables; `--out DIR` writes `fairness.json` and `fairness.md` there as well. 1 when a goal was missed.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from loadtests.bench.fairness.cases import BACK_S, Beside, Overload, Plan, beside, overload, shares
from loadtests.processes.owned import NotReady
from loadtests.report import files, machine
from loadtests.report.goals import Goal, goal_table
from loadtests.report.tables import facts, grid

CASES = ("beside", "shares", "overload")


def goals(found: Mapping[str, Any]) -> list[Goal]:
    """What the cases that were played have to show."""
    made: list[Goal] = []
    if isinstance(four := found.get("beside"), Beside):
        times, hits = four.ttft_p99_s, four.hit_rate
        made.append(Goal("p99 TTFT of the four beside the big one / alone", times["fair"] / times["alone"], 1.2, True))
        made.append(Goal("prefix hit rate, fair / unfair", hits["fair"] / hits["unfair"], 0.95, False))
        made.append(Goal("requests of the four without an answer", four.failed["alone"] + four.failed["fair"], 0, True))
    if (got := found.get("shares")) is not None:
        mean = sum(got.values()) / len(got)
        made.append(Goal("farthest share from its mean", max(abs(each / mean - 1) for each in got.values()), 0.1, True))
    if isinstance(flood := found.get("overload"), Overload):
        made.append(Goal("goodput in the overload / capacity", flood.goodput / flood.capacity, 0.9, False))
        made.append(Goal("seconds until all is as before", flood.back_s, BACK_S, True))
    return made


def tables(found: Mapping[str, Any]) -> str:
    """All figures in Markdown."""
    parts = [goal_table(goals(found))]
    if isinstance(four := found.get("beside"), Beside):
        head = ("four tenants at half of their share, p99 in s", *four.ttft_p99_s)
        rows = [
            ("time to first token", *(f"{each:.3f}" for each in four.ttft_p99_s.values())),
            ("in the first seconds, caches empty", *(f"{each:.3f}" for each in four.cold_p99_s.values())),
            ("prefix hit rate of all", *(f"{each:.3f}" for each in four.hit_rate.values())),
            ("their requests without an answer", *map(str, four.failed.values())),
            ("cut with the gateway that was killed", *map(str, four.cut.values())),
        ]
        parts += [grid(head, rows), f"The clients were late by {1000 * four.late_p99_s:.0f} ms at most (p99)."]
    if (got := found.get("shares")) is not None:
        parts.append(grid(("tenant", "tokens/s"), [(name, f"{each:.0f}") for name, each in got.items()]))
    if isinstance(flood := found.get("overload"), Overload):
        rows = [(name, f"{each:.4g}") for name, each in flood._asdict().items()]
        parts.append(grid(("overload of five times the capacity", ""), rows))
    return "\n\n".join(parts)


def page(about: Mapping[str, str], plan: Plan, found: Mapping[str, Any]) -> str:
    """The document."""
    return f"""# Fairness with real gateways

Made by `make bench-fairness`: gateways as processes with a real Redis between them, before engines simulated in real
time: `h100-8b` at {plan.speed:g} times its speed, so that this machine can play four of them. Times are longer by that.

* Four tenants at half of their share, for {plan.alone_s:g} s: alone, and beside one at ten times its own. There one of
  two gateways is killed half way. `unfair` is the same without tenants: first come, first served.
* Three tenants that all send more than their share, for {plan.shares_s:g} s, one of three gateways killed half way.
* Five times the capacity for {plan.overload_s:g} s, with half of it before and after.

{tables(found)}

{facts("machine", about)}
"""


def options(argv: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    usual = Plan()
    parser = argparse.ArgumentParser(prog="python -m loadtests.bench.fairness", description=__doc__)
    parser.add_argument("only", nargs="*", metavar="CASE", choices=[*CASES, []], help=", ".join(CASES))
    parser.add_argument("--speed", type=float, default=usual.speed, help="of the engines")
    parser.add_argument(
        "--alone", type=float, default=usual.alone_s, metavar="S", help="length of the first case's runs"
    )
    parser.add_argument("--overload", type=float, default=usual.overload_s, metavar="S", help="length of the overload")
    parser.add_argument("--python", default=sys.executable, help="of the gateways")
    parser.add_argument("--out", type=Path, metavar="DIR", help="write fairness.json and fairness.md there")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Play, print, write."""
    chosen = options(argv)
    plan = Plan(chosen.speed, chosen.alone, overload_s=chosen.overload)
    about = machine.description(chosen.python)
    played = {"beside": beside, "shares": shares, "overload": overload}
    found: dict[str, Any] = {}
    for name in chosen.only or CASES:
        try:
            found[name] = played[name](plan, chosen.python)
        except NotReady as error:
            raise SystemExit(str(error)) from None
        sys.stderr.write(f"{name}: {found[name]}\n")
    sys.stdout.write(tables(found) + "\n")
    shown = {name: each._asdict() if hasattr(each, "_asdict") else each for name, each in found.items()}
    files.write(chosen.out, "fairness", page(about, plan, found), {"machine": about, **shown})
    return int(not all(goal.met for goal in goals(found)))


if __name__ == "__main__":
    sys.exit(main())
