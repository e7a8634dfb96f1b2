"""Runs `counted.py` under callgrind and reads what it wrote. The parsing is pure.

The counted program gets an environment of its own: hashes are fixed, and nothing of the caller's reaches it.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path

from loadtests.bench.guard.baseline import Counts
from loadtests.bench.guard.counted import CALIBRATION, COUNTED
from loadtests.bench.guard.script import PHASES

TIMEOUT_S = 600.0

_NAME = re.compile(r"^desc: Trigger: Client Request: (.+)$", re.MULTILINE)
_TOTAL = re.compile(r"^totals: (\d+)$", re.MULTILINE)


class CountingFailed(Exception):
    """callgrind did not run, or its output is not understood; the message says why."""


def count() -> Counts:
    """Instructions of each phase, counted now; takes half a minute. Raises CountingFailed."""
    return counts(dumped("loadtests.bench.guard.counted"))


def dumped(module: str, *arguments: str) -> dict[str, int]:
    """The instructions in each dump of this module, run under callgrind in a process of its own. Raises
    CountingFailed."""
    with tempfile.TemporaryDirectory(prefix="turnout-guard-") as directory:
        out = f"--callgrind-out-file={directory}/out"
        ended = subprocess.run(
            ["valgrind", "--tool=callgrind", "--instr-atstart=no", out, sys.executable, "-m", module, *arguments],
            env={"PATH": "/usr/bin:/bin", "PYTHONHASHSEED": "0", "LC_ALL": "C.UTF-8"},
            cwd=Path(__file__).parents[3],
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
            check=False,
        )
        if ended.returncode:
            raise CountingFailed(f"callgrind ended with {ended.returncode}:\n{ended.stderr[-2000:]}")
        return total(path.read_text(errors="replace") for path in Path(directory).glob("out.*"))


def total(dumps: Iterable[str]) -> dict[str, int]:
    """The instructions in each of callgrind's dumps, by the dump's name; unnamed ones are left out."""
    found = {}
    for text in dumps:
        name, number = _NAME.search(text), _TOTAL.search(text)
        if name is not None and number is not None:
            found[name[1]] = int(number[1])
    return found


def counts(totals: Mapping[str, int], turns: int = COUNTED) -> Counts:
    """For a request of each phase; and for a chunk: what a long stream costs more than a short one, by its chunks.

    Raises CountingFailed where a phase is missing.
    """
    lacking = [name for name in (CALIBRATION, *(phase.name for phase in PHASES)) if name not in totals]
    if lacking:
        raise CountingFailed(f"callgrind counted nothing for: {', '.join(lacking)}")
    each = {f"request, {phase.name}": totals[phase.name] / turns for phase in PHASES}
    short, long = sorted((phase for phase in PHASES if phase.chunks), key=lambda phase: phase.chunks)
    more = totals[long.name] - totals[short.name]
    each["chunk of a stream"] = more / turns / (long.chunks - short.chunks)
    return Counts(totals[CALIBRATION], {name: round(number, 1) for name, number in each.items()})
