"""Where a request's time goes: cProfile over the guard's script. `python -m loadtests.bench.guard.profile [PHASE]`."""

from __future__ import annotations

import argparse
import asyncio
import cProfile
import pstats
import sys
from collections.abc import Sequence

from loadtests.bench.guard.script import PHASES, Phase, Stage, turns
from loadtests.bench.guard.wires import MemoryLoop

WARM = 100


async def profiled(phase: Phase, count: int) -> cProfile.Profile:
    """The profile of `count` turns."""
    stage = Stage(limited=phase.limited)
    await stage.play(turns(phase, WARM))
    script = turns(phase, count, first=WARM)
    profile = cProfile.Profile()
    profile.enable()
    await stage.play(script)
    profile.disable()
    await stage.close()
    return profile


def main(argv: Sequence[str] | None = None) -> None:
    """Print the functions that took most, themselves and without what they called."""
    names = {phase.name: phase for phase in PHASES}
    parser = argparse.ArgumentParser(prog="python -m loadtests.bench.guard.profile", description=__doc__)
    parser.add_argument("phase", nargs="?", choices=sorted(names), default=PHASES[0].name)
    parser.add_argument("--turns", type=int, default=2000)
    parser.add_argument("--top", type=int, default=30)
    chosen = parser.parse_args(argv)
    with asyncio.Runner(loop_factory=MemoryLoop) as runner:
        profile = runner.run(profiled(names[chosen.phase], chosen.turns))
    pstats.Stats(profile, stream=sys.stdout).sort_stats("tottime").print_stats(chosen.top)


if __name__ == "__main__":
    main()
