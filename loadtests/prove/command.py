"""`turnout prove OLD NEW`: plays the upgrade, measures both side by side, and says whether NEW may take OLD's place.

Exit status: 0 NEW passed, 1 it is a regression, 2 it could not be judged.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import uvloop

from loadtests.processes import redis_server
from loadtests.prove import judgement, pairs, scene
from loadtests.prove.installation import Installation, InstallationError, find
from loadtests.prove.judgement import UNDECIDED, WORSE, Finding
from loadtests.prove.pairs import NEW, Effort, Pairs
from loadtests.prove.replicas import NotComparable
from loadtests.prove.traffic import from_file
from loadtests.sim.simulate.traces import Trace, TraceError

ROUNDS = 5
LOOKS = 2
"""If a figure is undecided after the rounds, as many follow."""


class Proof(NamedTuple):
    """What the command line asks for."""

    old: Installation
    new: Installation
    trace: Trace
    rounds: int
    scenes: bool
    effort: Effort


def _options(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="turnout prove",
        description="May NEW take OLD's place? Plays the upgrade under load with faults, and measures both.",
        epilog="Exit status: 0 NEW passed, 1 regression, 2 could not be judged. Needs redis-server; about 5 minutes.",
    )
    where = "virtual environment, Python, turnout script, wheel or checkout"
    parser.add_argument("old", metavar="OLD", help=f"what runs now: a {where}")
    parser.add_argument("new", metavar="NEW", help="what should run, named in the same way")
    parser.add_argument("--traffic", type=Path, metavar="FILE", help="a recording (recording.path); default: chat")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="of measuring (%(default)s); 0: the upgrade only")
    parser.add_argument("--requests", type=int, default=Effort().requests, help="of each in a round (%(default)s)")
    parser.add_argument("--rate", type=float, default=Effort().per_s, help="of these a second (%(default)s)")
    parser.add_argument("--no-upgrade", action="store_true", help="measure only")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the verdict and all numbers here")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="keep the logs of all processes here")
    given = parser.parse_args(argv)
    if given.rounds not in (0, *range(3, 101)) or given.requests < 10 or not given.rate > 0:
        parser.error("--rounds is 0 or 3 to 100, --requests at least 10, --rate above 0")
    if not given.rounds and given.no_upgrade:
        parser.error("--rounds 0 with --no-upgrade leaves nothing to do")
    return given


async def prove(proof: Proof, directory: Path, say: Callable[[str], None]) -> tuple[list[Finding], dict[str, Any]]:
    """The findings, and the numbers behind them. Raises NotComparable."""
    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)  # all processes are ended on the way out
    findings: list[Finding] = []
    numbers: dict[str, Any] = {}
    if proof.scenes:
        scenes = await _scenes(proof, directory, say)
        findings.append(judgement.seen(*scenes))
        numbers["scenes"] = [each.as_json() for each in scenes]
    if proof.rounds and judgement.status_of(findings) != WORSE:
        rounds: list[pairs.Round] = []
        with Pairs(directory / "rounds", proof.trace, proof.effort) as measuring:
            for count in (proof.rounds, proof.rounds):
                at = len(rounds)
                rounds += await pairs.play(measuring, proof.old, proof.new, range(at, at + count), say)
                found = judgement.measured(rounds, LOOKS)
                if judgement.status_of(found) != UNDECIDED:
                    break
        findings += found
        numbers["rounds"] = [{"old": each.old._asdict(), "new": each.new._asdict()} for each in rounds]
    return findings, numbers


async def _scenes(proof: Proof, directory: Path, say: Callable[[str], None]) -> list[scene.Scene]:
    """One; after a fault the same again, and OLD in NEW's place as a control."""
    say("the upgrade under load")
    found = [await scene.play(proof.old, proof.new, directory / "upgrade", say)]
    if found[0].faults:
        say(f"faults ({len(found[0].faults)}), such as: {found[0].faults[0].kind}; once more")
        found.append(await scene.play(proof.old, proof.new, directory / "upgrade-again", say))
        say("and with OLD in both places")
        found.append(await scene.play(proof.old, proof.old, directory / "upgrade-control", say))
    return found


def _say(line: str) -> None:
    sys.stderr.write(f"{time.strftime('%H:%M:%S')} {line}\n")


def _run(given: argparse.Namespace, directory: Path) -> tuple[list[Finding], dict[str, Any]]:
    """The findings; a NEW that does not start is one of them. Raises NotComparable, InstallationError, TraceError."""
    old, new = find(given.old, directory), find(given.new, directory)
    for name, each in (("OLD", old), (NEW, new)):
        kind = "compiled" if each.compiled else "plain"
        _say(f"{name}: {each.version}, {kind}, Python {each.python_version}, {each.place}")
    effort = Effort(given.requests, given.rate)
    proof = Proof(old, new, from_file(given.traffic), given.rounds, not given.no_upgrade, effort)
    numbers: dict[str, Any] = {"old": old._asdict(), "new": new._asdict()}
    try:
        findings, more = uvloop.run(prove(proof, directory, _say))
    except asyncio.CancelledError:
        raise NotComparable("ended by SIGTERM") from None
    except NotComparable as error:
        if not error.replica.startswith(NEW):
            raise
        return [Finding("starting", WORSE, str(error))], numbers
    return findings, {**numbers, **more}


def main(argv: Sequence[str] | None = None) -> int:
    """Run, print and write; returns the exit status."""
    given = _options(argv)
    if redis_server.program() is None:
        sys.stderr.write("turnout prove: not installed: redis-server (Debian: apt-get install redis-server)\n")
        return UNDECIDED
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="turnout-prove-") as temporary:
        directory = given.keep or Path(temporary)
        directory.mkdir(parents=True, exist_ok=True)
        try:
            findings, numbers = _run(given, directory.absolute())
        except (NotComparable, InstallationError, TraceError, OSError) as error:
            findings, numbers = [Finding("this run", UNDECIDED, str(error))], {}
    sys.stdout.write(judgement.words(findings) + "\n")
    if given.json is not None:
        took = {"took_s": round(time.monotonic() - began, 1)}
        given.json.write_text(json.dumps({**judgement.as_json(findings), **took, **numbers}, indent=1) + "\n")
    return judgement.status_of(findings)


if __name__ == "__main__":
    raise SystemExit(main())
