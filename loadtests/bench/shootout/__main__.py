"""`make shootout`: the routers that others ship beside this one, in real time. Two hours, resumable.

Each run is kept as soon as it is done (`--runs`). A second call plays what is missing, and again what was played while
the load generator was late; a call that is ended by Ctrl-C or SIGTERM loses the run under way. A router that cannot be
installed or does not start is reported, and the others go on. All play a stretch before the next one begins, so that an
unfinished shootout compares all of them.
"""

from __future__ import annotations

import argparse
import fnmatch
import signal
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

from loadtests.bench.routers.wheels import Missing
from loadtests.bench.scheduling.play import TRACES
from loadtests.bench.shootout.contestants import CONTESTANTS, STRETCHES
from loadtests.bench.shootout.play import play
from loadtests.bench.shootout.played import Played, exact, figures
from loadtests.bench.shootout.report import Found, Key, as_json, document, goals
from loadtests.bench.shootout.store import Store, setting_of
from loadtests.bench.shootout.stretches import TRAFFIC, Cut, Stretch, stretch
from loadtests.bench.shootout.twins import Simulated, simulated
from loadtests.processes.owned import NotReady
from loadtests.report import files, machine
from loadtests.sim.simulate.traces import Trace, TraceError, read_trace

SECONDS = 180.0


class Turn(NamedTuple):
    """One router on one stretch."""

    name: str
    part: Stretch


def options(argv: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m loadtests.bench.shootout", description=__doc__)
    add = parser.add_argument
    names = ", ".join([*CONTESTANTS, *TRAFFIC])
    add("--only", type=lambda text: text.split(","), default=[], metavar="NAMES", help=f"routers and traffic: {names}")
    add("--seconds", type=float, default=SECONDS, help="length of a stretch")
    add("--stretches", type=int, default=STRETCHES, metavar="N", help="of each traffic, at most")
    add("--traces", type=Path, default=TRACES, metavar="DIR", help="where the traces are")
    add("--runs", type=Path, default=Path(".cache/shootout"), metavar="DIR", help="where runs are kept")
    add("--report-only", action="store_true", help="play nothing; report what is kept")
    add("--no-twins", action="store_true", help="simulate nothing")
    add("--out", type=Path, metavar="DIR", help="write shootout.json and shootout.md there")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Play and report. 0, or 1 when a goal was missed or there is no run, or 2 when it could not run."""
    given = options(argv)
    signal.signal(signal.SIGTERM, _leave)
    about = machine.description(sys.executable) | {"command": "make shootout"}
    about.pop("load generator")
    try:
        planned = turns(given)
        found = _found(given, planned, about)
    except (TraceError, OSError) as error:
        sys.stderr.write(f"shootout: {error}\n")
        return 2
    text = document(found)
    sys.stdout.write(text)
    files.write(given.out, "shootout", text, as_json(found))
    return int(not found.runs or not all(goal.met for goal in goals(found)))


def turns(given: argparse.Namespace) -> list[Turn]:
    """All runs in their order: stretch by stretch."""
    routers = [name for name in CONTESTANTS if _chosen(name, given.only, [*CONTESTANTS])]
    kinds = [name for name in TRAFFIC if _chosen(name, given.only, [*TRAFFIC])]
    cuts = [(kind, number) for number in range(1, given.stretches + 1) for kind in kinds]
    return [
        Turn(name, part)
        for kind, number in cuts
        for part in [_stretch(kind, given.traces, Cut(number, STRETCHES, given.seconds, TRAFFIC[kind].rate))]
        for name in routers
        if number <= CONTESTANTS[name].stretches
    ]


def _chosen(name: str, only: Sequence[str], kind: Sequence[str]) -> bool:
    """Whether it is named, or nothing of its kind is."""
    wanted = [pattern for pattern in only if fnmatch.filter(kind, pattern)]
    return not wanted or any(fnmatch.fnmatch(name, pattern) for pattern in wanted)


def _found(given: argparse.Namespace, planned: Sequence[Turn], about: dict[str, str]) -> Found:
    store, missing, started = Store(given.runs), dict[str, str](), time.monotonic()
    runs = [*_played(given, planned, store, missing)]
    about["played now"] = f"{time.monotonic() - started:.0f} s for {len(runs)} runs, those kept from before among them"
    twins = {} if given.no_twins else _twins(planned, runs)
    return Found(about, runs, missing, twins)


def _played(
    given: argparse.Namespace, planned: Sequence[Turn], store: Store, missing: dict[str, str]
) -> Iterator[Played]:
    for number, (name, part) in enumerate(planned, 1):
        who = CONTESTANTS[name]
        if name in missing:
            continue
        try:
            setting = setting_of(who.version(), part, who.ours)
            run = store.get(name, part, setting)
            if not given.report_only and (run is None or not exact(run)):
                with tempfile.TemporaryDirectory(prefix="turnout-shootout-") as directory:
                    run = play(name, who, part, setting, Path(directory))
                store.put(part, run)
        except (Missing, NotReady) as why:
            # Reports do not name this machine's directories.
            missing[name] = " ".join(str(why).split()).replace(f"{Path.cwd()}/", "")[-300:]
            sys.stderr.write(f"shootout: without {name}: {missing[name]}\n")
            continue
        if run is not None:
            sys.stderr.write(f"shootout: {number} of {len(planned)}: {part.name}, {name}: {_brief(run)}\n")
            yield run


def _brief(run: Played) -> str:
    row = figures([run])
    late = f"lateness p99 {row.late_p99_s * 1000:.0f} ms, engines lost {row.lost_s:.2f} s"
    return (
        f"mean {row.ttft_s.mean:.3f}, p99 {row.ttft_s.p99:.2f}, hits {row.hit_rate:.1%}, {late}, {row.failures or ''}"
    )


def _twins(planned: Sequence[Turn], runs: Sequence[Played]) -> dict[Key, Simulated]:
    there = {(run.router, run.traffic, run.number) for run in runs}
    wanted = {
        (part.traffic, part.number, CONTESTANTS[name].twin): part
        for name, part in planned
        if CONTESTANTS[name].twin and (name, part.traffic, part.number) in there
    }
    return {key: simulated(key[2], part) for key, part in wanted.items()}


def _stretch(traffic: str, traces: Path, cut: Cut) -> Stretch:
    return stretch(traffic, _trace(traces / TRAFFIC[traffic].file), cut)


@cache
def _trace(path: Path) -> Trace:
    return read_trace(path)


def _leave(number: int, frame: object) -> None:
    raise SystemExit(128 + number)  # `with` blocks end what they started


if __name__ == "__main__":
    sys.exit(main())
