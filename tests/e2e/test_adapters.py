"""Adapters that come and go on simulated engines, in front of them two real gateways that share a real Redis."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import re
import time
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from loadtests.sim.http_client import Client
from loadtests.sim.ports import HOST
from loadtests.sim.simpod.fleet import SimPod
from statesync.tasks import spawn
from tests.fakes.gateway_process import GatewayProcess, config, running
from tests.fakes.redis_server import RedisServer, redis_server
from tests.fakes.waiting import DEADLINE_S

pytestmark = pytest.mark.slow

SEEN_S = 2.0
"""Seconds in which a change at a pod must be seen by both gateways: one of them reads the pod's list twice a second and
publishes it to the other one by Redis, which each process of a busy machine delays."""
READS = 3
"""Readings of the pod's list after a change below which the gateways had no chance to see it."""
ANSWERS_BETWEEN = 15
"""Requests that are answered between two changes, as many as an idle machine answers: a gateway looks a few times for
an adapter that moves. On a slower machine, where adapters moved at the same pace, it would come too late each time."""
MODEL = re.compile(r"`([^`]*)`")


class Fleet:
    """Pods, and which adapters each has."""

    def __init__(self, count: int) -> None:
        self.pods = [SimPod(0, profile="tiny", speed=20.0, output_mean_tokens=4.0) for _ in range(count)]
        self.loaded: dict[str, set[SimPod]] = {}
        self.unloaded: dict[tuple[SimPod, str], tuple[float, int, float]] = {}
        """When an adapter was unloaded from a pod, how often the pod's list had been read then, and when it came
        back."""
        self.changes = 0

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[Fleet]:
        async with contextlib.AsyncExitStack() as stack:
            for pod in self.pods:
                await stack.enter_async_context(pod)
            yield self

    async def load(self, pod: SimPod, adapter: str) -> None:
        await self._change(pod, "load", {"lora_name": adapter, "lora_path": f"/adapters/{adapter}"})
        if (gone := self.unloaded.get((pod, adapter))) is not None:
            self.unloaded[pod, adapter] = (*gone[:2], time.monotonic())
        self.loaded.setdefault(adapter, set()).add(pod)

    async def unload(self, pod: SimPod, adapter: str) -> None:
        await self._change(pod, "unload", {"lora_name": adapter})
        self.loaded[adapter].discard(pod)
        self.unloaded[pod, adapter] = time.monotonic(), pod.received["/v1/models"], float("inf")

    async def _change(self, pod: SimPod, what: str, body: dict[str, str]) -> None:
        client = Client(HOST, pod.port)
        answer = await client.post(f"/v1/{what}_lora_adapter", json.dumps(body).encode(), DEADLINE_S)
        client.close()
        assert answer.status == 200, answer.body
        self.changes += 1

    async def churn(self, adapters: list[str], rng: random.Random, answers: Counter[int]) -> None:
        """Load and unload without end: each adapter is on one to four pods, and now and then it moves at once."""
        while True:
            enough = answers.total() + ANSWERS_BETWEEN
            await asyncio.sleep(0.1 * rng.random())
            while answers.total() < enough:  # noqa: ASYNC110  a count of many tasks has no event
                await asyncio.sleep(0.005)
            adapter = rng.choice(adapters)
            there = sorted(self.loaded[adapter], key=self.pods.index)
            others = [pod for pod in self.pods if pod not in there]
            if len(there) < 4 and rng.random() < 0.6:
                await self.load(rng.choice(others), adapter)
            if len(self.loaded[adapter]) > 1:
                await self.unload(rng.choice(there), adapter)

    def late(self, already: set[tuple[SimPod, float]]) -> list[str]:
        """Requests that reached a pod for an adapter which was unloaded there more than `SEEN_S` before."""
        found = []
        for pod in self.pods:
            for at, message in pod.refused:
                model = MODEL.findall(message)[0]
                since, reads, back = self.unloaded.get((pod, model), (at, 0, at))
                seen = pod.received["/v1/models"] - reads > READS
                if (pod, at) not in already and since + SEEN_S < at < back and seen:
                    found.append(f"{pod.address} was asked for {model} {at - since:.2f} s after its unloading")
                already.add((pod, at))
        return found


def body(model: str) -> bytes:
    return json.dumps({"model": model, "messages": [{"role": "user", "content": "hi"}], "max_tokens": 2}).encode()


async def ask(gateway: GatewayProcess, model: str) -> tuple[int, str]:
    """One request: the status, and the pod that answered."""
    client = Client(gateway.host, gateway.port)
    answer = await client.post("/v1/chat/completions", body(model), DEADLINE_S)
    client.close()
    return answer.status, answer.headers.get("x-turnout-pod", "")


async def until_only(gateway: GatewayProcess, model: str, pods: set[str]) -> None:
    """Wait until the model is answered by these pods, by each of them; without pods, until it is not found."""
    seen: list[tuple[int, str]] = []
    wanted = {(200, pod) for pod in pods} or {(404, "")}
    async with asyncio.timeout(DEADLINE_S):
        while {(status, pod if status == 200 else "") for status, pod in seen[-16:]} != wanted or len(seen) < 16:
            seen.append(await ask(gateway, model))


def settings(fleet: Fleet, server: RedisServer, replica: str) -> dict[str, object]:
    pods = [pod.url for pod in fleet.pods]
    pool = {"name": "default", "pods": pods, "policy": {"name": "round_robin"}}
    return config(pods, pools=[pool], state=f"redis://127.0.0.1:{server.port}", replica=replica)


@contextlib.asynccontextmanager
async def gateways(fleet: Fleet, server: RedisServer, directory: Path) -> AsyncIterator[list[GatewayProcess]]:
    """Two ready replicas. They start and end in a thread: meanwhile the pods answer on this loop."""
    with contextlib.ExitStack() as stack:
        try:
            yield [
                await asyncio.to_thread(
                    stack.enter_context, running(settings(fleet, server, name), directory / name, ["not ready"])
                )
                for name in ("one", "two")
            ]
        finally:
            await asyncio.to_thread(stack.close)


def test_case_a_1_and_a_2_adapters_are_reached_where_they_are_and_nowhere_else(tmp_path: Path) -> None:
    async def story(server: RedisServer) -> None:
        async with Fleet(3).running() as fleet, gateways(fleet, server, tmp_path) as (one, two):
            a, b, _ = fleet.pods
            await fleet.load(a, "lora")
            for gateway in (one, two):
                await until_only(gateway, "lora", {a.address})
            await fleet.load(b, "lora")
            for gateway in (one, two):
                await until_only(gateway, "lora", {a.address, b.address})
            await fleet.unload(a, "lora")
            assert [await ask(gateway, "lora") for gateway in (one, two) * 4] == [(200, b.address)] * 8
            await fleet.unload(b, "lora")
            for gateway in (one, two):
                await until_only(gateway, "lora", set())

    with redis_server() as server:
        asyncio.run(story(server))


@pytest.mark.realtime
def test_ten_thousand_requests_while_adapters_come_and_go(tmp_path: Path) -> None:
    requests, per_s, workers = 10_000, 350.0, 16
    adapters = [f"lora-{number}" for number in range(6)]
    rng = random.Random(1)
    answers: Counter[int] = Counter()
    failed: list[str] = []

    async def work(gateway: GatewayProcess, share: int) -> None:
        client = Client(gateway.host, gateway.port)
        for _ in range(share):
            model = rng.choice(adapters)
            answer = await client.post("/v1/chat/completions", body(model), DEADLINE_S)
            answers[answer.status if answer.complete else 0] += 1
            if answer.status != 200:
                failed.append(f"{answer.status} {answer.failure} {answer.body[:300]!r}")
            await asyncio.sleep(2 * rng.random() * workers / per_s)
        client.close()

    async def story(server: RedisServer) -> None:
        async with Fleet(8).running() as fleet:
            for adapter in adapters:
                await fleet.load(rng.choice(fleet.pods), adapter)
            async with gateways(fleet, server, tmp_path) as replicas:
                churn = spawn(fleet.churn(adapters, rng, answers), "churn")
                late: list[str] = []
                judged: set[tuple[SimPod, float]] = set()
                load = [spawn(work(replicas[n % 2], requests // workers), f"load {n}") for n in range(workers)]
                while not all(task.done() for task in load):
                    await asyncio.wait(load, timeout=0.2)
                    late += fleet.late(judged)
                churn.cancel()
                await asyncio.gather(*load)
                assert (late, failed, answers) == ([], [], Counter({200: requests}))
                assert fleet.changes > 100
                (tmp_path / "result").write_text(f"{fleet.changes} changes, {len(judged)} requests moved on\n")

    with redis_server() as server:
        asyncio.run(story(server))
