"""One run: conversations through every replica; calm stretches with few swaps and rushes with many, in turns.

The calm stretches use the same policies as the rushes and lie between them, so that their decision times differ by the
swapping and not by other load on the machine. The caller starts the gateways.
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
"""Requests in flight when the load stops end within this time."""


class Gateway(NamedTuple):
    """A replica's two ports: `http://host:port` each."""

    inference: str
    control: str


class Plan(NamedTuple):
    """The size of a run."""

    calm_s: float = 60.0
    """In total, divided evenly between the policies."""
    rush_s: float = 180.0
    """In total."""
    turns: int = 3
    """Pairs of a calm stretch and a rush."""
    swaps_per_minute: float = 200.0
    users: int = 12
    """Conversations at a time, by replica."""
    model: str = "sim-model"


class Outcome(NamedTuple):
    """The results."""

    swaps: int
    refused: dict[str, int]
    """Refused swaps, by answer."""
    requests: int
    failed: dict[str, int]
    policies: dict[str, int]
    """Answers by the policy that decided."""
    calm: Decisions
    rush: Decisions
    generations: list[int]
    """Of each replica, once the load is over."""
    inflight: int
    """Over all replicas and pods, after the load has ended: a number above 0 is a leak."""

    @property
    def buckets_apart(self) -> int:
        """By how many buckets of the histogram the rush's p99 is beyond the calm's."""
        return self.rush.bucket(0.99) - self.calm.bucket(0.99)

    @property
    def passed(self) -> bool:
        """Nothing failed or leaked, replicas agree, and decisions did not take longer."""
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
        swapper = _Swapper(controls, random.Random(seed))
        calm, rush = Decisions(), Decisions()
        async with _load(gateways, plan) as load:
            await swapper.walk(2.0)  # the first picks of a process are slow
            for _ in range(plan.turns):
                await swapper.timed(calm, swapper.walk(plan.calm_s / plan.turns))
                await swapper.timed(rush, swapper.rush(plan.rush_s / plan.turns, plan.swaps_per_minute))
        inflight = await swapper.settled()
        stats = [each.stats for each in load]
        return Outcome(
            swaps=swapper.swaps,
            refused=dict(swapper.refused),
            requests=sum(each.requests for each in stats),
            failed=dict(sum((Counter(each.errors_by_kind) for each in stats), Counter())),
            policies=dict(sum((Counter(each.by_pod) for each in stats), Counter())),
            calm=calm,
            rush=rush,
            generations=await swapper.generations(),
            inflight=inflight,
        )


@asynccontextmanager
async def _load(gateways: Sequence[Gateway], plan: Plan) -> AsyncIterator[list[Traffic]]:
    """Conversations for the block; those under way at its end are aborted, as clients do."""
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


class _Swapper:
    """Swaps policies, and reads the gateways' numbers."""

    def __init__(self, controls: Sequence[httpx.AsyncClient], rng: random.Random) -> None:
        self.swaps = 0
        self.refused: Counter[str] = Counter()
        self._controls = controls
        self._rng = rng

    async def swap(self, choice: Choice) -> None:
        """Swap on one replica, each in turn; the others follow."""
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
        """Every policy once, for equal times."""
        for choice in CHOICES:
            await self.swap(choice)
            await asyncio.sleep(seconds / len(CHOICES))

    async def rush(self, seconds: float, per_minute: float) -> None:
        """Swaps at a constant rate: after a slow one the next follows without a pause."""
        loop = asyncio.get_running_loop()
        start, choice = loop.time(), CHOICES[-1]
        for at in range(round(seconds * per_minute / 60)):
            await asyncio.sleep(max(0.0, start + at * 60 / per_minute - loop.time()))
            choice = self._rng.choice([each for each in CHOICES if each != choice])
            await self.swap(choice)

    async def decisions(self) -> Decisions:
        """The histograms of all replicas."""
        pages = [(await control.get("/metrics")).raise_for_status().text for control in self._controls]
        return Decisions.read(pages)

    async def generations(self) -> list[int]:
        """The policy's generation on each replica."""
        return [(await control.get(POLICY)).raise_for_status().json()["generation"] for control in self._controls]

    async def settled(self) -> int:
        """Wait for the requests in flight to end; returns how many did not."""
        loop = asyncio.get_running_loop()
        end = loop.time() + SETTLE_S
        while (left := await self._inflight()) and loop.time() < end:  # noqa: ASYNC110  other processes' counts
            await asyncio.sleep(0.05)
        return left

    async def _inflight(self) -> int:
        pods = [pod for control in self._controls for pod in (await control.get("/admin/pods")).json()]
        return sum(pod["inflight"] + pod["running"] + pod["queued"] for pod in pods)
