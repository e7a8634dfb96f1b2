"""One run: the load, the faults of the plan at their times, and what was left when both were over."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter
from typing import Final

from loadtests.chaos.arena import CLUSTER, FAKETIME, NAMED, TOKEN_S, Arena, Layout, capacity
from loadtests.chaos.faults import MAKING
from loadtests.chaos.leaks import baseline, complaints, leaked
from loadtests.chaos.load import ChaosLoad, Sent
from loadtests.chaos.oracle import Judged, Window, judge
from loadtests.chaos.plan import Fault, Plan
from loadtests.chaos.requests import MEAN_TOKENS

LOAD: Final = 0.7
"""Of what the pods hold."""


@dataclass
class Outcome:
    """The results of a run."""

    plan: Plan
    sent: list[tuple[Sent, Judged]] = field(default_factory=list)
    windows: list[Window] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    """Kinds of faults that cannot be made on this machine."""
    refused: int = 0
    leaks: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)


def run(plan: Plan, layout: Layout, directory: Path, say: Callable[[str], None]) -> Outcome:
    """The whole run in `directory`, which keeps the logs. Raises NotReady if what was killed does not come back."""
    with ExitStack() as stack:
        arena = stack.enter_context(Arena(layout, directory))
        return asyncio.run(_run(plan, arena, say))


async def _run(plan: Plan, arena: Arena, say: Callable[[str], None]) -> Outcome:
    outcome = Outcome(plan)
    before = await asyncio.to_thread(baseline, arena)
    rate, models = _rate(capacity(arena.layout))
    say(f"{rate:.1f} requests a second on {len(arena.pods)} pods through {len(arena.replicas)} replicas")
    load = ChaosLoad(lambda: arena.rotation, models, rate, plan.seed)
    async with asyncio.TaskGroup() as group:
        group.create_task(load.run(plan.seconds))
        for track in dict.fromkeys(fault.track for fault in plan.faults):
            faults = [fault for fault in plan.faults if fault.track == track]
            group.create_task(_track(arena, faults, perf_counter(), outcome, say))
    say("all answers have ended")
    outcome.refused = load.refused
    outcome.sent = [(each, judge(each.asked, each.answer, each.replica, outcome.windows)) for each in load.sent]
    outcome.leaks = await asyncio.to_thread(leaked, arena, before)
    outcome.complaints = await asyncio.to_thread(complaints, arena)
    return outcome


def _rate(room: Mapping[str, int]) -> tuple[float, Mapping[str, int]]:
    """Requests a second that keep `LOAD` of the room in use, and how they are shared between the models."""
    return LOAD * sum(room.values()) / (MEAN_TOKENS * TOKEN_S), {CLUSTER: room[CLUSTER], NAMED: room[NAMED]}


async def _track(
    arena: Arena, faults: Sequence[Fault], began: float, outcome: Outcome, say: Callable[[str], None]
) -> None:
    """The faults of one track, one after the other. One that takes long to undo delays those after it, and those that
    the end of the load overtakes are left out."""
    for fault in faults:
        if fault.kind.startswith("clock_") and FAKETIME is None:
            outcome.skipped.append(fault.kind)
            continue
        await asyncio.sleep(max(0.0, began + fault.at_s - perf_counter()))
        at = perf_counter()
        if at > began + outcome.plan.seconds:
            return
        making = MAKING[fault.kind](arena, fault)
        struck = await asyncio.to_thread(making.__enter__)
        say(f"{at - began:6.1f} s  {fault.kind} for {fault.for_s:.1f} s: {struck}")
        window = Window(fault.kind, at, float("inf"), struck)
        outcome.windows.append(window)
        try:
            await asyncio.sleep(max(0.0, at + fault.for_s - perf_counter()))
        finally:
            await asyncio.to_thread(making.__exit__, None, None, None)
        outcome.windows[outcome.windows.index(window)] = window._replace(ended=perf_counter())
