"""The upgrade itself, under load: OLD is rolled to NEW and back, and things go wrong on the way. It decides no verdict.

Every request must get its whole and right answer, but for those that a killed replica or pod had in its hands.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any

import httpx

from loadtests.processes.redis_server import RedisServer
from loadtests.processes.replica import ReplicaProcess
from loadtests.processes.sim_pods import SimPods
from loadtests.prove import wire
from loadtests.prove.installation import Installation
from loadtests.prove.load import Rotation, Sent
from loadtests.prove.replicas import POOL, Replicas, holds, inflight, policy_of, ready
from loadtests.prove.traffic import Question, question
from loadtests.prove.wire import Fault
from loadtests.sim.ports import free_ports
from statesync.tasks import spawn

PROFILE = "paced"
"""Ten tokens a second at any load."""
MOST_PER_POD = 24
CROWD = 90
"""Requests at once: more than all pods take, so that some wait in the queue."""
LISTENERS = 8
LISTEN_TOKENS = 40
PER_S = 12.0
SETTLE_S = 2.0
NOTICE_S = 0.5
"""From SIGTERM until the load balancer notices."""
CALM_S = 2.0
GONE_S = 20.0
"""Within this time a dead replica's requests are out of the others' counts: several times `sync.lease_s`."""
DRAINED_S = 40.0
TRIED_POLICY = "p2c"


@dataclass
class Scene:
    """What was seen in one run."""

    faults: list[Fault] = field(default_factory=list)
    requests: int = 0
    excused: int = 0
    """Requests that a killed process had in its hands."""

    def as_json(self) -> dict[str, Any]:
        """For the file of all numbers."""
        faults = [fault._asdict() for fault in self.faults]
        return {"requests": self.requests, "excused": self.excused, "faults": faults}


@dataclass(frozen=True)
class Killed:
    """A process that was killed on purpose."""

    name: str
    at: float

    def excuses(self, sent: Sent) -> bool:
        """Whether this request was in its hands: an answer that had begun there, or one without a byte."""
        open_then = sent.began <= self.at <= sent.ended
        return open_then and self.name in (sent.replica, sent.pod)


class _Play:
    """The fleet and what happens to it."""

    def __init__(self, fleet: Replicas, pods: list[SimPods], redis: RedisServer, say: Callable[[str], None]) -> None:
        self.fleet, self.pods, self.redis, self.say = fleet, pods, redis, say
        self.load = Rotation()
        self.scene = Scene()
        self.killed: list[Killed] = []
        self._over = asyncio.Event()
        self._number = 0

    def fault(self, kind: str, replica: ReplicaProcess, detail: str) -> None:
        """Note one."""
        self.scene.faults.append(Fault(kind, replica.slot.name, detail))

    def start(self, installation: Installation, label: str) -> ReplicaProcess:
        """Start a replica that will take part."""
        self._number += 1
        return self.fleet.start(f"{label}-{self._number}", installation, settle_s=SETTLE_S, most=MOST_PER_POD)

    async def roll(self, installation: Installation, label: str) -> None:
        """A new replica serves, then the oldest leaves with its streams; it must end by itself."""
        new = self.start(installation, label)
        await ready(new)
        if not await holds(lambda: policy_of(new) == TRIED_POLICY, wire.WITHIN_S):
            self.fault("policy is not taken over", new, f"{TRIED_POLICY} is in force, and a new replica has another")
        self.load.replicas.append(new)
        await self.leave(self.load.replicas[0])
        self.say(f"{new.slot.name} serves")

    async def leave(self, old: ReplicaProcess) -> None:
        """SIGTERM; the load balancer notices a little later."""
        old.leave()
        await asyncio.sleep(NOTICE_S)
        self.load.replicas.remove(old)
        if not await holds(old.process.ended, DRAINED_S):
            self.fault("drain does not end", old, f"it still runs {DRAINED_S:g} s after SIGTERM")
        elif old.process.exit_status:
            self.fault("drain ends badly", old, f"exit status {old.process.exit_status}")

    async def talk(self) -> None:
        """Short requests at a constant rate until the end."""
        at = 0
        async with asyncio.TaskGroup() as group:
            while not self._over.is_set():
                at += 1
                group.create_task(self.load.ask(question(0.0, f"Question {at}. " * 20, 4, stream=at % 3 != 0)))
                await asyncio.sleep(1 / PER_S)

    async def listen(self, number: int) -> None:
        """One long stream after the other until the end."""
        at = 0
        while not self._over.is_set():
            at += 1
            await self.load.ask(question(0.0, f"Listener {number} wants story {at}.", LISTEN_TOKENS))

    def end(self) -> None:
        """No new requests."""
        self._over.set()

    def excuses(self, sent: Sent) -> bool:
        """Whether something that was killed had this request in its hands."""
        return any(killed.excuses(sent) for killed in self.killed)

    def faults(self) -> list[Fault]:
        """Those noted so far, and the requests that failed without an excuse."""
        failed = [sent for sent in self.load.sent if sent.fault and not self.excuses(sent)]
        return [*self.scene.faults, *map(_failed, failed)]


async def play(old: Installation, new: Installation, directory: Path, say: Callable[[str], None]) -> Scene:
    """One run. Raises NotComparable if a replica does not start."""
    for folder in (directory, directory / "doomed"):
        await asyncio.to_thread(folder.mkdir, parents=True, exist_ok=True)
    (control,) = free_ports(1)
    with (
        RedisServer(directory) as redis,
        SimPods(2, PROFILE, directory, control) as lasting,
        SimPods(1, PROFILE, directory / "doomed") as doomed,
        Replicas(redis.url, "prove", [*lasting.urls, *doomed.urls], directory) as fleet,
    ):
        acts = _Play(fleet, [lasting, doomed], redis, say)
        try:
            await _acts(acts, old, new)
        finally:
            acts.load.close()
        acts.scene.requests, acts.scene.faults = len(acts.load.sent), acts.faults()
        acts.scene.excused = sum(1 for sent in acts.load.sent if sent.fault and acts.excuses(sent))
        return acts.scene


async def _acts(acts: _Play, old: Installation, new: Installation) -> None:
    """In order, up to the first that shows a fault: the run is then played again, and time is short."""
    first, newer = acts.start(old, "OLD"), acts.start(new, "NEW")
    await ready(first, newer)
    acts.say("OLD and NEW read each other")
    acts.scene.faults += [fault async for fault in wire.check(first, newer, acts.load)]
    for each in (first, newer):
        acts.scene.faults += await asyncio.to_thread(wire.unreadable, each)
    if acts.scene.faults:
        return
    await asyncio.to_thread(first.change, f"/admin/pools/{POOL}/policy", {"policy": TRIED_POLICY})
    acts.load.replicas = [first, newer]
    tasks = [spawn(acts.talk(), "talk"), *(spawn(acts.listen(at), "listen") for at in range(LISTENERS))]
    try:
        await asyncio.sleep(CALM_S)
        for act in _order(acts, old, new):
            await act()
            if acts.faults():
                break
        await asyncio.sleep(CALM_S)
    finally:
        acts.end()
        await asyncio.gather(*tasks, return_exceptions=True)
    await _at_rest(acts)


def _order(acts: _Play, old: Installation, new: Installation) -> list[Callable[[], Awaitable[None]]]:
    return [
        partial(acts.roll, new, "NEW"),
        partial(_crowd, acts),
        partial(_replica_dies, acts, new),
        partial(_redis_restarts, acts),
        partial(_pod_dies, acts),
        partial(acts.roll, old, "OLD"),
        partial(acts.roll, old, "OLD"),
    ]


async def _crowd(acts: _Play) -> None:
    """More requests at once than the pods take: each is answered, those in the queue too."""
    acts.say(f"{CROWD} requests at once")
    crowd: list[Question] = [question(0.0, f"One of a crowd, {at}.", 4) for at in range(CROWD)]
    await acts.load.play(crowd)


async def _replica_dies(acts: _Play, new: Installation) -> None:
    """SIGKILL to the newest replica; what it had in flight leaves the others' counts with its lease."""
    victim, other = acts.load.replicas[-1], acts.load.replicas[0]
    acts.say(f"{victim.slot.name} is killed")
    acts.load.replicas.remove(victim)
    acts.killed.append(Killed(victim.slot.name, perf_counter()))
    await asyncio.to_thread(victim.process.kill)
    if not await holds(lambda: other.metric("turnout_replicas") == 1, GONE_S):
        acts.fault("a dead replica is counted", other, f"{victim.slot.name} was killed {GONE_S:g} s ago")
    in_place = acts.start(new, "NEW")
    await ready(in_place)
    acts.load.replicas.append(in_place)


async def _redis_restarts(acts: _Play) -> None:
    """An empty Redis takes its place: the replicas find each other again, and put the policy back."""
    acts.say("Redis restarts, empty")
    await asyncio.to_thread(acts.redis.restart_empty)
    replicas = [*acts.load.replicas]
    for each in replicas:
        if not await holds(lambda each=each: each.metric("turnout_replicas") == len(replicas), GONE_S):  # type: ignore[misc]
            acts.fault("replicas do not find each other after a restart of Redis", each, "it sees too few")


async def _pod_dies(acts: _Play) -> None:
    """SIGKILL to a pod: requests that had no byte of an answer yet move on to others."""
    acts.say("a pod is killed")
    doomed = acts.pods[1]
    acts.killed.append(Killed(doomed.urls[0].removeprefix("http://"), perf_counter()))
    await asyncio.to_thread(doomed.process.kill)
    await asyncio.sleep(CALM_S)


async def _at_rest(acts: _Play) -> None:
    """Without load no replica counts a request, and all messages were readable."""
    for replica in acts.load.replicas:
        if not await holds(lambda each=replica: inflight(each) == 0, GONE_S):  # type: ignore[misc]
            acts.fault("requests stay in flight", replica, "its counts are not zero though no request is under way")
        try:
            acts.scene.faults += await asyncio.to_thread(wire.unreadable, replica)
        except httpx.HTTPError as error:
            acts.fault("the control port does not answer", replica, str(error))


def _failed(sent: Sent) -> Fault:
    detail = f"pod {sent.pod or 'none'}, after {sent.ended - sent.began:.2f} s"
    return Fault(f"a request failed: {sent.fault}", sent.replica, detail)
