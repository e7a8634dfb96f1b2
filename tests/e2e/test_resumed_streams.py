"""Streams outlive the replica that serves them: real processes, a real Redis, and clients that come back by themselves.
Every text is compared with what the engine says to the same prompt when nothing is disturbed.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any, Final

import httpx
import pytest
from openai import AsyncOpenAI

from loadtests.sim.right_answer import expected
from router.resuming import AsyncResumingTransport
from statesync.tasks import spawn
from tests.fakes.gateway_process import GatewayProcess, config, pool, starting
from tests.fakes.redis_server import RedisServer, redis_server
from tests.fakes.sim_process import MODEL, SimPods, sim_pods
from tests.fakes.waiting import DEADLINE_S, until, wait_for

pytestmark = pytest.mark.needs("redis-server")

TOKENS: Final = 24
LEASE_S: Final = 6.0
"""As long as a dead replica keeps its streams: shorter than a busy machine lets a process stand still, they are taken
from one that lives, which this file does not test."""


@pytest.fixture
def redis() -> Iterator[RedisServer]:
    with redis_server() as server:
        yield server


@pytest.fixture(scope="module")
def paced(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimPods]:
    """Pods of ten tokens a second."""
    with sim_pods(4, tmp_path_factory.mktemp("pods") / "pods.log", "--profile", "paced") as pods:
        yield pods


class Replicas:
    """Replicas behind one address: as a load balancer does, a request goes to the first one that accepts it."""

    def __init__(
        self, stack: ExitStack, redis: RedisServer, pods: SimPods, directory: Path, **failover: object
    ) -> None:
        pools = [pool("default", pods.urls, failover={"resume": True} | failover)]
        state = f"redis://127.0.0.1:{redis.port}"
        sync = {"lease_s": LEASE_S, "timeout_s": 30.0}
        self._settings = config((), pools=pools, state=state, sync=sync, drain={"settle_s": 0.0, "timeout_s": 0.5})
        self._stack, self._directory = stack, directory
        self.live: list[GatewayProcess] = []
        self._count = 0

    def start(self, count: int) -> Sequence[GatewayProcess]:
        """Start so many, and wait until they are ready."""
        names = [f"replica-{self._count + at}" for at in range(count)]
        self._count += count
        new = [
            self._stack.enter_context(starting(self._settings | {"replica": name}, self._directory / name))
            for name in names
        ]
        for each in new:
            each.wait_until_ready()
        self.live += new
        return new


class Balanced(httpx.AsyncBaseTransport):
    """Sends each request to the first of the replicas."""

    def __init__(self, replicas: Replicas) -> None:
        self._replicas = replicas
        self._inner = httpx.AsyncHTTPTransport(limits=httpx.Limits(max_connections=None, max_keepalive_connections=0))

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        request.url = request.url.copy_with(host="127.0.0.1", port=self._replicas.live[0].port)
        return await self._inner.handle_async_request(request)

    async def aclose(self) -> None:
        await self._inner.aclose()


async def one(client: httpx.AsyncClient, number: int, tokens: int, begun: Callable[[], object]) -> str:
    """What is wrong with the answer to a stream's request; `ok` if nothing is."""
    messages = [{"role": "user", "content": f"stream {number}"}]
    body = {
        "model": MODEL,
        "messages": messages,
        "stream": True,
        "temperature": 0,
        "max_tokens": tokens,
        "ignore_eos": True,
        "stream_options": {"include_usage": True},
    }
    text, usage, last = "", dict[str, Any](), ""
    async with client.stream("POST", "http://gateway/v1/chat/completions", json=body) as answer:
        assert answer.status_code == 200, await answer.aread()
        async for line in answer.aiter_lines():
            if not line.startswith("data: "):
                continue
            last = line[6:]
            event = {} if last == "[DONE]" else json.loads(last)
            if "error" in event:
                return str(event["error"])
            usage = event.get("usage") or usage
            for choice in event.get("choices") or ():
                text += choice["delta"].get("content") or ""
                if text:
                    begun()
    right = (text.encode() == expected(messages, tokens), usage.get("completion_tokens") == tokens, last == "[DONE]")
    return "ok" if all(right) else f"text, usage, end: {right}"


async def run(replicas: Replicas, count: int, tokens: int, disturb: Callable[[], None]) -> Counter[str]:
    """`count` streams at once; `disturb` is called in another thread when all of them have a token."""
    seen: set[int] = set()
    transport = AsyncResumingTransport(Balanced(replicas))
    async with httpx.AsyncClient(transport=transport, timeout=DEADLINE_S) as client:
        found: Counter[str] = Counter()

        async def play(number: int) -> None:
            found[await one(client, number, tokens, partial(seen.add, number))] += 1

        streams = [spawn(play(number), f"stream {number}") for number in range(count)]
        await until(lambda: len(seen) == count or any(each.done() for each in streams))
        await asyncio.to_thread(disturb)
        await asyncio.gather(*streams)
        return found


def kill(replicas: Replicas) -> None:
    """`kill -9` of the replica that has the streams."""
    gone = replicas.live.pop(0)
    os.kill(gone.pid, signal.SIGKILL)


def roll(replicas: Replicas) -> None:
    """Replace every replica, whose streams last longer than its drain."""
    old = list(replicas.live)
    for each in old:
        replicas.start(1)
        replicas.live.remove(each)
        each.signal()
        assert each.ended() == 0


@pytest.mark.slow
def test_streams_of_a_replica_that_is_killed_go_on_over_another_one(
    redis: RedisServer, paced: SimPods, tmp_path: Path
) -> None:
    with ExitStack() as stack:
        replicas = Replicas(stack, redis, paced, tmp_path)
        replicas.start(2)
        assert asyncio.run(run(replicas, 20, TOKENS, lambda: kill(replicas))) == {"ok": 20}
        (left,) = replicas.live
        left.settle()
        wait_for("the pods are idle", paced.idle)


@pytest.mark.slow
def test_streams_of_a_replica_that_drains_too_long_are_handed_over(
    redis: RedisServer, paced: SimPods, tmp_path: Path
) -> None:
    with ExitStack() as stack:
        replicas = Replicas(stack, redis, paced, tmp_path)
        replicas.start(2)

        def retire() -> None:
            old = replicas.live.pop(0)
            old.signal()
            assert old.ended() == 0
            assert old.complaints() == []

        assert asyncio.run(run(replicas, 20, TOKENS, retire)) == {"ok": 20}
        wait_for("the pods are idle", paced.idle)


@pytest.mark.realtime
def test_200_streams_survive_the_kill_of_their_replica(redis: RedisServer, paced: SimPods, tmp_path: Path) -> None:
    with ExitStack() as stack:
        replicas = Replicas(stack, redis, paced, tmp_path)
        replicas.start(2)
        assert asyncio.run(run(replicas, 200, 80, lambda: kill(replicas))) == {"ok": 200}
        wait_for("the pods are idle", paced.idle)


@pytest.mark.realtime
def test_200_streams_survive_a_roll_of_all_replicas(redis: RedisServer, paced: SimPods, tmp_path: Path) -> None:
    with ExitStack() as stack:
        replicas = Replicas(stack, redis, paced, tmp_path)
        replicas.start(2)
        assert asyncio.run(run(replicas, 200, 120, lambda: roll(replicas))) == {"ok": 200}
        wait_for("the pods are idle", paced.idle)


@pytest.mark.slow
def test_streams_go_on_unkept_while_redis_is_away(redis: RedisServer, paced: SimPods, tmp_path: Path) -> None:
    with ExitStack() as stack:
        replicas = Replicas(stack, redis, paced, tmp_path)
        (only,) = replicas.start(1)
        assert asyncio.run(run(replicas, 10, TOKENS, redis.kill)) == {"ok": 10}
        assert asyncio.run(run(replicas, 10, 3, lambda: None)) == {"ok": 10}
        assert only.complaints() == []


@pytest.mark.slow
def test_openais_sdk_does_not_notice_that_its_replica_died(redis: RedisServer, paced: SimPods, tmp_path: Path) -> None:
    async def ask(replicas: Replicas) -> str:
        http = httpx.AsyncClient(transport=AsyncResumingTransport(Balanced(replicas)), timeout=DEADLINE_S)
        # Typed for httpx2, but it takes clients of httpx, too.
        given: Any = http
        async with AsyncOpenAI(base_url="http://gateway/v1", api_key="none", http_client=given, max_retries=0) as sdk:
            said = ""
            stream = await sdk.chat.completions.create(
                model=MODEL,
                messages=[{"role": "user", "content": "hello"}],
                max_tokens=TOKENS,
                extra_body={"ignore_eos": True},
                stream=True,
            )
            async for event in stream:
                said += event.choices[0].delta.content or "" if event.choices else ""
                if said and len(replicas.live) == 2:
                    kill(replicas)
            return said

    with ExitStack() as stack:
        replicas = Replicas(stack, redis, paced, tmp_path)
        replicas.start(2)
        said = asyncio.run(ask(replicas))
        assert said.encode() == expected([{"role": "user", "content": "hello"}], TOKENS)
        assert len(replicas.live) == 1
