"""What callgrind runs: warm up, then every phase between two client requests. `python -m ...guard.counted`.

The garbage collector is off while it counts: where its passes fall depends on every allocation before.
"""

from __future__ import annotations

import asyncio
import gc
import sys

from loadtests.bench.guard.script import PHASES, Stage, turns
from loadtests.bench.guard.valgrind import Callgrind
from loadtests.bench.guard.wires import MemoryLoop

WARM = 100
"""Turns of each phase before anything is counted: specialised bytecode, remembered heads, an index with content."""

COUNTED = 100
"""Turns of each phase that are counted."""

CALIBRATION = "calibration"
"""Work outside the gateway: if its count differs, the interpreter differs, and counts cannot be compared."""


async def run(callgrind: Callgrind) -> None:
    """Warm up and count."""
    stages = {limited: Stage(limited=limited) for limited in (False, True)}
    for phase in PHASES:
        stage = stages[phase.limited]
        script = turns(phase, WARM)
        for turn in script[:3]:
            await stage.check(turn)
        await stage.play(script[3:])
    scripts = [(phase, turns(phase, COUNTED, first=WARM)) for phase in PHASES]
    calibrate()
    gc.collect()
    gc.disable()
    callgrind.start()
    callgrind.zero()
    calibrate()
    callgrind.dump(CALIBRATION)
    for phase, script in scripts:
        callgrind.zero()
        await stages[phase.limited].play(script)
        callgrind.dump(phase.name)
    for stage in stages.values():
        await stage.close()


def calibrate() -> int:
    """A little of all that a request is made of: calls, dicts, slices of bytes, integers, strings."""
    table: dict[bytes, int] = {}
    text = bytes(range(256)) * 128
    for at in range(2000):
        key = text[at : at + 64]
        table[key] = table.get(key, 0) + _mix(at, len(key))
    return sum(table.values()) + len("".join([str(number) for number in table.values()]))


def _mix(left: int, right: int) -> int:
    return (left * 31 + right) & 0xFFFF


def main() -> None:
    """Run under callgrind; without it this counts nothing."""
    callgrind = Callgrind()
    if not callgrind.present:
        sys.exit("this is to be run by callgrind: python -m loadtests.bench.guard")
    with asyncio.Runner(loop_factory=MemoryLoop) as runner:
        runner.run(run(callgrind))


if __name__ == "__main__":
    main()
