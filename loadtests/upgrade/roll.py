"""The sequence of a run: load until it is steady, roll every replica one at a time, as often as planned, steady again.

A roll is what a Deployment with maxSurge 1 and maxUnavailable 0 does: a new replica starts and gets requests, then the
old one gets SIGTERM, and the next roll begins without waiting for the old one's last stream.
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
    """The lengths of the windows in seconds, and the least number of requests."""

    warm_s: float = 12.0
    before_s: float = 20.0
    between_rolls_s: float = 2.0
    after_s: float = 12.0
    """At least; it lasts until the last long stream has ended."""
    requests: int = 20_000
    """The load goes on until this many were sent."""
    most_s: float = 300.0
    """Limit of the whole run."""


class Window:
    """An interval on `perf_counter`'s clock."""

    def __init__(self) -> None:
        self.began = perf_counter()
        self.ended = 0.0

    def end(self) -> None:
        """End it now."""
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
    """In flight by pod, in the new replica's view when it became ready."""
    truth: dict[str, int]
    """By the pods' own counts: the mean of just before and just after."""
    serving_at: float
    """When the new one was in rotation."""
    left_at: float
    """When the old one got SIGTERM."""


@dataclass
class Story:
    """The records of a run."""

    records: list[Record]
    windows: dict[str, Window] = field(default_factory=dict)
    rolls: list[Roll] = field(default_factory=list)
    samples: list[tuple[float, list[PodState]]] = field(default_factory=list)
    """The pods' own counts, several times a second."""
    exits: dict[str, int | None] = field(default_factory=dict)
    """Exit status by retired replica; None: it still ran at the end."""
    haproxy: dict[str, int] = field(default_factory=dict)
    cpu: dict[str, float] = field(default_factory=dict)
    """Cores used before the rolls, by kind of process."""
    took_s: float = 0.0


SAMPLE_S = 0.25
EXIT_S = 60.0
COUNTERS = ("wretr", "wredis", "econ", "eresp")


async def play(fleet: Fleet, mix: Mix, times: Times, say: Callable[[str], None]) -> Story:
    """Run it. Raises NotReady if a replica does not start; faults of requests are in the records."""
    began = perf_counter()
    load = Load(HOST, fleet.port, mix)
    story = Story(load.records)
    loading = spawn(load.run(), "load")
    sampling = spawn(_sample(fleet, story), "sample")
    try:
        async with asyncio.timeout(times.most_s):
            await _acts(fleet, load, times, story, say)
            say("waiting for the last requests")
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
    """Requests in flight before the new replica's first request: in its view, and by the pods' own counts."""
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
    """Read HAProxy's counters, and wait for the retired replicas to end by themselves."""
    assert fleet.haproxy is not None
    story.haproxy = fleet.haproxy.total(COUNTERS)
    end = perf_counter() + EXIT_S
    for replica in fleet.retired:
        wait_for("it ends", lambda each=replica: each.process.ended() or perf_counter() > end)  # type: ignore[misc]
        story.exits[replica.slot.name] = replica.process.exit_status


def to_stderr(line: str) -> None:
    """Print progress."""
    sys.stderr.write(f"  {line}\n")
