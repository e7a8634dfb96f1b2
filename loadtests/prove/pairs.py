"""OLD and NEW measured side by side: in every round two new replicas of each get the same requests at the same moments.

What disturbs the machine disturbs both, so that their ratio shows the difference of the programs. Processes of one
program differ by a few percent for as long as they live, so that a round, not a request, is the unit of the statistics
(Kalibera and Jones, Rigorous Benchmarking in Reasonable Time, ISMM 2013).
"""

from __future__ import annotations

import asyncio
import math
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import fmean, median
from typing import Final, NamedTuple

from loadtests.processes import procfs
from loadtests.processes.redis_server import RedisServer
from loadtests.processes.replica import ReplicaProcess
from loadtests.processes.sim_pods import SimPods
from loadtests.prove.installation import Installation
from loadtests.prove.load import Rotation, Sent
from loadtests.prove.replicas import NotComparable, Replicas, holds, inflight, ready
from loadtests.prove.traffic import questions
from loadtests.sim.simulate.traces import Trace

OLD, NEW = "OLD", "NEW"
PROFILE: Final = "tiny"
PODS: Final = 3
"""Of each side."""
REPLICAS: Final = 2
"""Of each side: one of them has to know what the other did."""
WARM: Final = 40
"""Requests that are not measured: the first ones of a process are slow, and its memory grows."""
REST_S: Final = 15.0


class Effort(NamedTuple):
    """How much is measured."""

    requests: int = 200
    """Of each side in a round."""
    per_s: float = 40.0
    """Mean rate of each side."""


class SideFigures(NamedTuple):
    """What one side did in a round."""

    requests: int
    faults: dict[str, int]
    cpu_s: float
    hit_rate: float
    """Share of prompt tokens found in the engines' caches, by the engines' count."""
    growth_bytes: int
    """Of the replicas' memory."""
    stuck: int
    """Requests still counted in flight after all had ended."""
    ttft_s: float
    """Median."""


class Round(NamedTuple):
    """Both sides of a round, and how much later NEW's first bytes came than OLD's."""

    old: SideFigures
    new: SideFigures
    ttft_log_ratio: float
    """The mean, over pairs of equal requests, of the logarithm of NEW's time over OLD's."""

    @property
    def cpu_log_ratio(self) -> float:
        """Of CPU time a request."""
        return math.log(self.new.cpu_s / self.old.cpu_s)


class _Side:
    """The replicas of one program in one round."""

    def __init__(self, replicas: Sequence[ReplicaProcess]) -> None:
        self.load = Rotation()
        self.load.replicas = [*replicas]
        self._pids = [pid for replica in replicas for pid in replica.process.pids()]

    def used(self) -> procfs.Usage:
        """What its replicas have used since their starts. Raises NotComparable if one has ended."""
        for each in self.load.replicas:
            if each.process.ended():
                log = each.process.log.read_text()[-500:]
                raise NotComparable(f"{each.slot.name} ended by itself: {log}", each.slot.name)
        return procfs.read(self._pids)

    async def figures(self, sent: Sequence[Sent], used: procfs.Usage) -> SideFigures:
        """Of these requests, and of what was used between two readings."""
        replicas = self.load.replicas
        rested = [await holds(lambda each=each: inflight(each, "own_inflight") == 0, REST_S) for each in replicas]  # type: ignore[misc]
        prompt = sum(each.prompt_tokens for each in sent)
        return SideFigures(
            len(sent),
            dict(Counter(each.fault for each in sent if each.fault)),
            max(used.cpu_s, procfs.TICK_S),
            sum(each.cached_tokens for each in sent) / prompt if prompt else 0.0,
            used.rss_bytes,
            rested.count(False),
            median(each.ttft_s for each in sent),
        )


class Pairs:
    """Engines and Redis for all rounds; the end of the `with` block ends them."""

    def __init__(self, directory: Path, trace: Trace, effort: Effort) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self._directory, self._trace, self._effort = directory, trace, effort
        self._redis = RedisServer(directory)
        try:
            self._pods = SimPods(2 * PODS, PROFILE, directory)
        except BaseException:
            self._redis.stop()
            raise

    def __enter__(self) -> Pairs:
        return self

    def __exit__(self, *error: object) -> None:
        self._pods.stop()
        self._redis.stop()

    async def round(self, number: int, old: Installation, new: Installation) -> Round:
        """One round; the sides swap their engines and the order of starting every time. Raises NotComparable."""
        urls = self._pods.urls
        sides = [(OLD, old), (NEW, new)][:: 1 if number % 2 else -1]
        folder = self._directory / f"round-{number}"
        folder.mkdir(exist_ok=True)
        fleets = {
            name: Replicas(self._redis.url, f"{name}-{number}", urls[at * PODS : (at + 1) * PODS], folder)
            for at, (name, _) in enumerate(sides)
        }
        with fleets[OLD] as first, fleets[NEW] as second:
            started = {OLD: first, NEW: second}
            replicas = {
                name: [started[name].start(f"{name}-{number}-{at}", installation) for at in range(REPLICAS)]
                for name, installation in sides
            }
            await ready(*replicas[OLD], *replicas[NEW])
            return await self._measured(number, {name: _Side(each) for name, each in replicas.items()})

    async def _measured(self, number: int, sides: dict[str, _Side]) -> Round:
        count, per_s = self._effort
        try:
            warm = [*questions(self._trace, 2 * number, WARM, 2 * per_s)]
            await asyncio.gather(*(side.load.play(warm) for side in sides.values()))
            before = {name: side.used() for name, side in sides.items()}
            asked = [*questions(self._trace, 2 * number + 1, count, per_s)]
            sent = dict(
                zip(sides, await asyncio.gather(*(side.load.play(asked) for side in sides.values())), strict=True)
            )
            used = {name: _since(side.used(), before[name]) for name, side in sides.items()}
            figures = {name: await side.figures(sent[name], used[name]) for name, side in sides.items()}
        finally:
            for side in sides.values():
                side.load.close()
        return Round(figures[OLD], figures[NEW], _ttft_log_ratio(sent[OLD], sent[NEW]))


def _since(now: procfs.Usage, before: procfs.Usage) -> procfs.Usage:
    """Both as differences, memory too."""
    return now.since(before)._replace(rss_bytes=now.rss_bytes - before.rss_bytes)


def _ttft_log_ratio(old: Sequence[Sent], new: Sequence[Sent]) -> float:
    pairs = zip(old, new, strict=True)
    whole = [math.log(after.ttft_s / before.ttft_s) for before, after in pairs if not before.fault and not after.fault]
    return fmean(whole) if whole else 0.0


async def play(
    pairs: Pairs, old: Installation, new: Installation, numbers: Sequence[int], say: Callable[[str], None]
) -> list[Round]:
    """These rounds. Raises NotComparable."""
    found = []
    for number in numbers:
        each = await pairs.round(number, old, new)
        found.append(each)
        say(
            f"round {number + 1}: CPU x{math.exp(each.cpu_log_ratio):.3f}, TTFT x{math.exp(each.ttft_log_ratio):.3f}, "
            f"prompt tokens found in cache {each.old.hit_rate:.1%} and {each.new.hit_rate:.1%}"
        )
    return found
