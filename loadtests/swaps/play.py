"""One run: conversations through every replica, each policy for a while, then all of them in a rush of swaps, in turns.

The calm stretches go through the same policies as the rushes and lie between them, so that what differs between their
decision times is the swapping and not what else the machine does. Talks to gateways that somebody else started.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator, Coroutine, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import NamedTuple

import httpx

from loadtests.sim.conversation import Shape
from loadtests.sim.traffic import Traffic
from loadtests.swaps.choices import CHOICES, Choice
from loadtests.swaps.decisions import Decisions, slower

POLICY = "/admin/pools/default/policy"
SETTLE_S = 60.0
"""What is in flight when the load stops is over within so long."""


class Gateway(NamedTuple):
    """Where a replica is: `http://host:port` each."""

    inference: str
    control: str


class Plan(NamedTuple):
    """What to do."""

    calm_s: float = 60.0
    """In all; each policy has its share of it."""
    rush_s: float = 180.0
    """In all."""
    turns: int = 3
    """Of a calm stretch and a rush."""
    swaps_per_minute: float = 200.0
    users: int = 12
    """Conversations at a time, by replica."""
    model: str = "sim-model"


class Outcome(NamedTuple):
    """What came of it."""

    swaps: int
    refused: dict[str, int]
    """Swaps that were not made, by what was answered."""
    requests: int
    failed: dict[str, int]
    policies: dict[str, int]
    """Answers by the policy that decided."""
    calm: Decisions
    rush: Decisions
    generations: list[int]
    """Of each replica, once the load is over."""
    inflight: int
    """Over all replicas and pods, once the load is over: what is left then is leaked."""

    @property
    def buckets_apart(self) -> int:
        """By how many buckets of the histogram the rush's p99 is beyond the calm's."""
        return self.rush.bucket(0.99) - self.calm.bucket(0.99)

    @property
    def well(self) -> bool:
        """Nothing failed, nothing leaked, replicas agree, and decisions took as long as before."""
        clean = not self.failed and not self.refused and not self.inflight
        return clean and self.swaps > 0 and len(set(self.generations)) == 1 and not slower(self.calm, self.rush)


async def play(gateways: Sequence[Gateway], plan: Plan, seed: int = 0) -> Outcome:
    """The whole run. Raises httpx.HTTPError if a control port goes away."""
    async with AsyncExitStack() as stack:
        controls = [
            await stack.enter_async_context(
                httpx.AsyncClient(base_url=each.control, trust_env=False, verify=False, timeout=60.0)
            )
            for each in gateways
        ]
        rider = _Rider(controls, random.Random(seed))
        calm, rush = Decisions(), Decisions()
        async with _load(gateways, plan) as load:
            await rider.walk(2.0)  # the first picks of a process are slow
            for _ in range(plan.turns):
                await rider.timed(calm, rider.walk(plan.calm_s / plan.turns))
                await rider.timed(rush, rider.rush(plan.rush_s / plan.turns, plan.swaps_per_minute))
        inflight = await rider.settled()
        stats = [each.stats for each in load]
        return Outcome(
            swaps=rider.swaps,
            refused=dict(rider.refused),
            requests=sum(each.requests for each in stats),
            failed=dict(sum((Counter(each.errors_by_kind) for each in stats), Counter())),
            policies=dict(sum((Counter(each.by_pod) for each in stats), Counter())),
            calm=calm,
            rush=rush,
            generations=await rider.generations(),
            inflight=inflight,
        )


@asynccontextmanager
async def _load(gateways: Sequence[Gateway], plan: Plan) -> AsyncIterator[list[Traffic]]:
    """Conversations for the block; those under way at its end are broken off, as clients do."""
    shape = Shape(system_tokens=200, turns=4, max_tokens=8, think_s=0.02)
    load = [
        Traffic(each.inference, plan.model, plan.users, shape=shape, seed=at, pod_header="x-turnout-policy")
        for at, each in enumerate(gateways)
    ]
    loop = asyncio.get_running_loop()
    tasks = [loop.create_task(each.run()) for each in load]
    try:
        yield load
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)


class _Rider:
    """Swaps, and reads what the gateways show."""

    def __init__(self, controls: Sequence[httpx.AsyncClient], rng: random.Random) -> None:
        self.swaps = 0
        self.refused: Counter[str] = Counter()
        self._controls = controls
        self._rng = rng

    async def swap(self, choice: Choice) -> None:
        """On one replica, the next in turn; the others follow."""
        control = self._controls[self.swaps % len(self._controls)]
        answer = await control.put(POLICY, json=choice._asdict())
        self.swaps += 1
        if not answer.is_success:
            self.refused[f"{answer.status_code} {answer.text[:200]}"] += 1

    async def timed(self, counted: Decisions, stretch: Coroutine[None, None, None]) -> None:
        """Add the decisions of a stretch to those that were `counted`."""
        before = await self.decisions()
        await stretch
        counted.add((await self.decisions()).since(before))

    async def walk(self, seconds: float) -> None:
        """Every policy in its turn, each for its share of the time."""
        for choice in CHOICES:
            await self.swap(choice)
            await asyncio.sleep(seconds / len(CHOICES))

    async def rush(self, seconds: float, per_minute: float) -> None:
        """Swap after swap, on a clock of its own: a slow one is followed by the next without a pause."""
        loop = asyncio.get_running_loop()
        start, choice = loop.time(), CHOICES[-1]
        for at in range(round(seconds * per_minute / 60)):
            await asyncio.sleep(max(0.0, start + at * 60 / per_minute - loop.time()))
            choice = self._rng.choice([each for each in CHOICES if each != choice])
            await self.swap(choice)

    async def decisions(self) -> Decisions:
        """What the histograms of all replicas say now."""
        pages = [(await control.get("/metrics")).raise_for_status().text for control in self._controls]
        return Decisions.read(pages)

    async def generations(self) -> list[int]:
        """The policy's, as each replica has it."""
        return [(await control.get(POLICY)).raise_for_status().json()["generation"] for control in self._controls]

    async def settled(self) -> int:
        """Requests in flight as all replicas see them, at last."""
        loop = asyncio.get_running_loop()
        end = loop.time() + SETTLE_S
        while (left := await self._inflight()) and loop.time() < end:  # noqa: ASYNC110  other processes' counts
            await asyncio.sleep(0.05)
        return left

    async def _inflight(self) -> int:
        pods = [pod for control in self._controls for pod in (await control.get("/admin/pods")).json()]
        return sum(pod["inflight"] + pod["running"] + pod["queued"] for pod in pods)
