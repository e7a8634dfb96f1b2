"""`make bench-epp`: what `turnout epp` takes for a pick behind the real Envoy, beside `turnout serve` on the same load.

Prints a table; `--out DIR` writes `epp.json` and `epp.md` there as well.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median

from loadtests.bench.epp.measure import Cost, Plan, envoy_first, measured
from loadtests.bench.load import cores
from loadtests.bench.load.result import LoadFailed
from loadtests.processes.owned import NotReady
from loadtests.report import files, machine
from loadtests.report.tables import facts, grid

ENVOY = ".venv-clients/lib/python3*/site-packages/envoy/_bin/envoy"
"""Where `make test-clients` puts it."""

SHARED = {
    True: "Envoy runs ahead of the engines and the load on their core, so that they delay no pick.",
    False: "Envoy waits for the engines and the load on their core, which delays picks: only root may put it first.",
}
"""What the page says of Envoy's core, by whether Envoy runs ahead there."""


def rows(costs: Sequence[Cost]) -> dict[str, list[float]]:
    """Medians over the rounds, by title: the gateway's and the picker's."""

    def of(take: str, at: int | None = None) -> list[float]:
        found = []
        for peer in ("gateway", "picker"):
            values = [getattr(cost, take) for cost in costs if cost.peer == peer]
            found.append(median([value if at is None else value[at] for value in values]))
        return found

    return {
        "CPU a request, us": of("cpu_us"),
        "Envoy's CPU a request, us": of("envoy_us"),
        "pick, median, ms": of("picks_ms", 0),
        "pick, p99, ms": of("picks_ms", 1),
        "answer, median, ms": of("answers_ms", 0),
        "answer, p99, ms": of("answers_ms", 1),
    }


def table(costs: Sequence[Cost]) -> str:
    """In Markdown."""
    found = [(title, *(f"{value:.4g}" if value else "-" for value in values)) for title, values in rows(costs).items()]
    return grid(("", "`turnout serve`", "Envoy with `turnout epp`"), found)


def page(about: Mapping[str, str], costs: Sequence[Cost], plan: Plan) -> str:
    """The document."""
    return f"""# What an endpoint picker costs

Made by `make bench-epp`: `turnout serve`, and `turnout epp` behind Envoy with `FULL_DUPLEX_STREAMED` both ways, each on
one core (`prefix_aware`, default settings); Envoy, canned engines and the load on another. {plan.rate:,.0f} requests a
second at random times, 1.2 KB prompts, whole answers. A pick is timed by Envoy, from its first message until the reply
that names the pod; an answer from when its request was due. Medians of {plan.rounds} rounds of {plan.seconds:g} s,
{sum(cost.requests for cost in costs):,} answers; missing or wrong: {sum(cost.wrong for cost in costs)}.
{SHARED[envoy_first()]}

{table(costs)}

{facts("machine", about)}
"""


def options(argv: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m loadtests.bench.epp", description=__doc__)
    usual = Plan(Path())
    parser.add_argument("--rounds", type=int, default=usual.rounds)
    parser.add_argument("--seconds", type=float, default=usual.seconds, help="of each round")
    parser.add_argument("--rate", type=float, default=usual.rate, help="requests a second")
    parser.add_argument("--python", default=sys.executable, help="of gateway and picker")
    parser.add_argument("--envoy", type=Path, help="the program; default: that of `make test-clients`")
    parser.add_argument("--out", type=Path, help="write epp.json and epp.md into this folder")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print, write. 1: an answer was missing or wrong."""
    chosen = options(argv)
    envoy = chosen.envoy or next(Path().glob(ENVOY), None)
    if envoy is None:
        raise SystemExit("Envoy is missing: run `make test-clients`, or say where it is with --envoy")
    cores.prepare()
    about = machine.description(chosen.python)
    plan = Plan(envoy, chosen.rounds, chosen.seconds, chosen.rate, chosen.python)
    with tempfile.TemporaryDirectory(prefix="turnout-epp-") as directory:
        try:
            costs = list(measured(plan, Path(directory)))
        except (NotReady, LoadFailed) as error:
            raise SystemExit(str(error)) from None
    sys.stdout.write(table(costs) + "\n")
    files.write(
        chosen.out, "epp", page(about, costs, plan), {"machine": about, "rounds": [each._asdict() for each in costs]}
    )
    return int(any(cost.wrong for cost in costs))


if __name__ == "__main__":
    sys.exit(main())
