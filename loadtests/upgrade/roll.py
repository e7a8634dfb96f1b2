"""The plot: load until it is steady, roll every replica one at a time, as often as planned, then steady again.

A roll is what a Deployment with maxSurge 1 and maxUnavailable 0 does: a new replica is started and gets requests, then
the old one is told to leave, and the next roll begins without waiting for the old one's last stream.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from time import perf_counter, process_time

from loadtests.processes import procfs
from loadtests.processes.owned import wait_for
from loadtests.processes.replica import ReplicaProcess
from loadtests.sim.ports import HOST
from loadtests.upgrade.fleet import Fleet, PodState
from loadtests.upgrade.load import LONG, Load, Mix, Record
from statesync.tasks import spawn


@dataclass(frozen=True)
class Times:
    """How long the acts are, in seconds, and how much there has to be."""

    warm_s: float = 12.0
    before_s: float = 20.0
    between_rolls_s: float = 2.0
    after_s: float = 12.0
    """At least: until the last long stream has ended."""
    requests: int = 20_000
    """The load goes on until so many were sent."""
    most_s: float = 300.0
    """But no longer than this."""


class Window:
    """A stretch of time, on `perf_counter`'s clock."""

    def __init__(self) -> None:
        self.began = perf_counter()
        self.ended = 0.0

    def end(self) -> None:
        """It ends now."""
        self.ended = perf_counter()

    def holds(self, at: float) -> bool:
        """Whether that moment lies in it."""
        return self.began <= at < self.ended


@dataclass(frozen=True)
class Roll:
    """One replica's replacement."""

    old: str
    new: str
    ready_s: float
    """From the new one's start to its readiness."""
    seen: dict[str, int]
    """In flight by pod, as the new replica saw it when it became ready."""
    truth: dict[str, int]
    """As the pods themselves saw it, just before and just after, halved."""
    serving_at: float
    """When the new one was in rotation."""
    left_at: float
    """When the old one was told to leave."""


@dataclass
class Story:
    """All that happened."""

    records: list[Record]
    windows: dict[str, Window] = field(default_factory=dict)
    rolls: list[Roll] = field(default_factory=list)
    samples: list[tuple[float, list[PodState]]] = field(default_factory=list)
    """The pods' own counts, several times a second."""
    exits: dict[str, int | None] = field(default_factory=dict)
    """Exit status by retired replica; None: still there at the end."""
    haproxy: dict[str, int] = field(default_factory=dict)
    cpu: dict[str, float] = field(default_factory=dict)
    """Cores used before the rolls, by kind of process."""
    took_s: float = 0.0


SAMPLE_S = 0.25
EXIT_S = 60.0
COUNTERS = ("wretr", "wredis", "econ", "eresp")


async def play(fleet: Fleet, mix: Mix, times: Times, say: Callable[[str], None]) -> Story:
    """Run it. Raises FleetFailed if a replica does not start; what goes wrong with requests stands in the story."""
    began = perf_counter()
    load = Load(HOST, fleet.port, mix)
    story = Story(load.records)
    loading = spawn(load.run(), "load")
    sampling = spawn(_sample(fleet, story), "sample")
    try:
        async with asyncio.timeout(times.most_s):
            await _acts(fleet, load, times, story, say)
            say("the last requests end")
            await loading
    except TimeoutError:
        say(f"cut short after {times.most_s:g} s, with {load.open} open")
    finally:
        for task in (sampling, loading):
            task.cancel()
        await asyncio.gather(sampling, loading, return_exceptions=True)
    await asyncio.to_thread(_farewell, fleet, story)
    story.took_s = perf_counter() - began
    return story


async def _acts(fleet: Fleet, load: Load, times: Times, story: Story, say: Callable[[str], None]) -> None:
    say("warming up")
    await asyncio.sleep(times.warm_s)
    before = story.windows["before"] = Window()
    spent, own = _cpu(fleet), process_time()
    await asyncio.sleep(times.before_s)
    before.end()
    seconds = before.ended - before.began
    story.cpu = {kind: (after - spent[kind]) / seconds for kind, after in _cpu(fleet).items()}
    story.cpu["load"] = (process_time() - own) / seconds
    during = story.windows["during"] = Window()
    for _ in range(fleet.plan.rounds * fleet.plan.replicas):
        roll = await _roll(fleet)
        story.rolls.append(roll)
        open_now = load.open[LONG]
        say(f"{roll.old} leaves, {roll.new} serves ({roll.ready_s:.1f} s to ready); {open_now} long streams open")
        await asyncio.sleep(times.between_rolls_s)
    await asyncio.sleep(max(0.0, fleet.plan.settle_s - times.between_rolls_s))
    during.end()
    load.no_more_long.set()
    after = story.windows["after"] = Window()
    await asyncio.sleep(times.after_s)
    while load.open[LONG] or len(load.records) < times.requests:  # noqa: ASYNC110  two counters, no event
        await asyncio.sleep(0.1)
    after.end()
    load.no_more.set()


async def _roll(fleet: Fleet) -> Roll:
    began = perf_counter()
    new = await asyncio.to_thread(fleet.start_replica)
    await asyncio.to_thread(wait_for, f"{new.slot.name} is ready", new.ready)
    ready = perf_counter()
    seen, truth = await asyncio.to_thread(_views, fleet, new)
    await asyncio.to_thread(fleet.wait_in_rotation, new)
    in_rotation = perf_counter()
    old = await asyncio.to_thread(fleet.retire_oldest)
    return Roll(
        old.slot.name,
        new.slot.name,
        ready - began,
        seen,
        truth,
        in_rotation,
        left_at=perf_counter(),
    )


def _views(fleet: Fleet, new: ReplicaProcess) -> tuple[dict[str, int], dict[str, int]]:
    """What the new replica believes of the pods before it has its first request, and what is true."""
    before = fleet.truth()
    seen = new.inflight()
    return seen, {
        was.address: (was.open_requests + now.open_requests) // 2
        for was, now in zip(before, fleet.truth(), strict=True)
    }


async def _sample(fleet: Fleet, story: Story) -> None:
    while True:
        pods = await asyncio.to_thread(fleet.truth)
        story.samples.append((perf_counter(), pods))
        await asyncio.sleep(SAMPLE_S)


def _cpu(fleet: Fleet) -> dict[str, float]:
    return {kind: procfs.read(pids).cpu_s for kind, pids in fleet.pids().items()}


def _farewell(fleet: Fleet, story: Story) -> None:
    """Read what HAProxy counted, and give the retired a moment to be gone by themselves."""
    assert fleet.haproxy is not None
    story.haproxy = fleet.haproxy.total(COUNTERS)
    end = perf_counter() + EXIT_S
    for replica in fleet.retired:
        wait_for("it ends", lambda each=replica: each.process.ended() or perf_counter() > end)  # type: ignore[misc]
        story.exits[replica.slot.name] = replica.process.exit_status


def to_stderr(words: str) -> None:
    """Progress, for a person."""
    sys.stderr.write(f"  {words}\n")
