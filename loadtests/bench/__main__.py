"""The bench's command line and its run: start engines and peers, load each in turn, round after round, report.

Routers are tied to core 0, engines and wrk to core 1. Every process is ours and is ended by its pid.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from loadtests.bench import wrk
from loadtests.bench.cases import CASES, Case
from loadtests.bench.peers import PEERS, Missing, Place
from loadtests.bench.process import NotReady, Owned, pin, wait_until_ready
from loadtests.bench.report import Sample, as_json, table
from loadtests.ports import free_ports

ROUTER_CORE = 0
LOAD_CORE = 1
ENGINES = 4
WARM_S = 1.0
SERIALS_A_RUN = 10_000_000
"""More than any run sends, so that no two runs send the same prompt."""


class Target(NamedTuple):
    """A running peer."""

    peer: str
    url: str
    owned: Owned


def say(text: str) -> None:
    """Progress goes to stderr: stdout is the report's."""
    sys.stderr.write(text + "\n")


@contextlib.contextmanager
def targets(names: Sequence[str], directory: Path) -> Iterator[list[Target]]:
    """Engines and peers, running; those that are not on this machine are named and left out."""
    with contextlib.ExitStack() as stack:
        ports = free_ports(ENGINES)
        command = [sys.executable, "-m", "loadtests.bench.canned", *map(str, ports)]
        engines = stack.enter_context(Owned(command, LOAD_CORE, directory / "engines.log"))
        direct = f"http://127.0.0.1:{ports[0]}"
        wait_until_ready(engines, f"{direct}/health")
        found = [Target("direct", direct, engines)]
        for name in names:
            place = Place(directory / name, free_ports(1)[0], ports)
            place.directory.mkdir()
            try:
                start = PEERS[name](place)
            except Missing as missing:
                say(f"bench: without {name}: {missing}")
                continue
            owned = stack.enter_context(Owned(start.command, ROUTER_CORE, place.directory / "output.log"))
            wait_until_ready(owned, start.ready)
            found.append(Target(name, start.url, owned))
        yield found


def measure(case: Case, found: Sequence[Target], rounds: int, seconds: float, directory: Path) -> list[Sample]:
    """Warm every target, then load them in turn, `rounds` times over."""
    samples: list[Sample] = []
    serial = 0
    for number in range(rounds + 1):
        for target in found:
            warming = number == 0
            before = target.owned.cpu_s()
            serial += SERIALS_A_RUN
            load = wrk.run(pin(LOAD_CORE), target.url, case, WARM_S if warming else seconds, serial, directory)
            spent = target.owned.cpu_s() - before
            if not warming:
                samples.append(Sample(target.peer, number, load, spent, target.owned.rss_bytes()))
                say(f"round {number}/{rounds} {target.peer:>8}: {load.rate:>9,.0f} req/s")
    return samples


def options(argv: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m loadtests.bench", description=__doc__)
    parser.add_argument("case", choices=sorted(CASES))
    parser.add_argument("--peers", default=",".join(PEERS), help="comma-separated; default: all; '' for none")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=3.0, help="of load, per peer and round")
    parser.add_argument("--json", metavar="FILE", help="write figures and samples there as well")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one case. 0 when every request was answered well, 1 when some were not, 2 when it could not run."""
    chosen = options(argv)
    if shutil.which("wrk") is None:
        say("bench: the load generator `wrk` is not installed (Debian: apt-get install wrk)")
        return 2
    if not (pin(ROUTER_CORE) and pin(LOAD_CORE)):
        say("bench: needs two cores and taskset to keep router and load apart; going on without, ratios say less")
    case = CASES[chosen.case]
    try:
        with tempfile.TemporaryDirectory(prefix="turnout-bench-") as name, contextlib.ExitStack() as stack:
            found = stack.enter_context(targets([*filter(None, chosen.peers.split(","))], Path(name)))
            samples = measure(case, found, chosen.rounds, chosen.seconds, Path(name))
    except (NotReady, wrk.LoadFailed) as error:
        say(f"bench: {error}")
        return 2
    head = f"{case.name}: {case.prompt_bytes} bytes of prompt, {case.connections} connections, one core each"
    sys.stdout.write(f"{head}, medians of {chosen.rounds}\n\n{table(samples)}\n")
    if chosen.json:
        Path(chosen.json).write_text(json.dumps(as_json(case.name, samples), indent=1) + "\n")
    return int(any(sample.load.failed or sample.load.bad_status for sample in samples))


if __name__ == "__main__":
    sys.exit(main())
