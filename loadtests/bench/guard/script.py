"""What is counted: a fixed script of requests through a real replica, both far ends of its connections played here.

Every run does exactly the same: prompts, heads and answers are made from their numbers, random numbers are seeded, the
clock is a counter. It also runs without valgrind: `profile.py` and the tests do that.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import random
from functools import partial
from hashlib import sha256
from typing import NamedTuple, cast

from loadtests.bench.guard.wires import MemoryLoop, Wire
from router.access.keys import KeyRecord
from router.lifecycle import Phase as LifePhase
from router.replica.build import build
from router.replica.replica import Replica
from router.settings import Auth, PolicyGuard, PolicySpec, Pool, Settings, Telemetry, TenantSettings, Timeouts
from schedulers.types import Pod, PodId

PODS = 16
TICK_S = 1e-5
"""How far the clock moves each time it is read."""

DATE_EVERY = 50
"""Answers with the same `date`: a pod that gives 50 a second."""

GROUPS = 64
"""Different system prompts that requests share; the questions after them are new each time."""

PATIENCE = 100
"""Loop turns the gateway may take to pass a piece on; today it needs none."""


TENANT = TenantSettings(
    name="search", requests_per_minute=1_000_000_000, tokens_per_minute=1_000_000_000, max_inflight=1000
)
KEY = KeyRecord(name="guard", tenant=TENANT.name, sha256=sha256(b"sk-0123456789abcdef").hexdigest())
"""The key of all requests; only the phases that are `limited` need it."""


class Phase(NamedTuple):
    """One kind of request."""

    name: str
    prompt_bytes: int
    chunks: int = 0
    """Events of a streamed answer; 0 is a whole answer."""
    new_heads: bool = False
    """Every head is new, as where clients trace their requests: none can be remembered."""
    limited: bool = False
    """The gateway asks for keys, and the key's tenant has limits."""


PHASES = (
    Phase("whole 1.2 KB", 1200),
    Phase("whole 1.2 KB, new heads", 1200, new_heads=True),
    Phase("whole 1.2 KB, keys and limits", 1200, limited=True),
    Phase("whole 32 KB", 32768),
    Phase("stream of 1", 1200, chunks=1),
    Phase("stream of 64", 1200, chunks=64),
)


class Turn(NamedTuple):
    """One request and its answer, as they go over the wires."""

    request: bytes
    head: bytes
    """Of the answer; empty where it comes with the first piece."""
    pieces: list[bytes]
    """The rest of the answer, each piece a read of its own."""


_HEAD = (
    "POST /v1/chat/completions HTTP/1.1\r\n"
    "host: gateway:8000\r\n"
    "accept-encoding: gzip, deflate\r\n"
    "connection: keep-alive\r\n"
    "accept: application/json\r\n"
    "content-type: application/json\r\n"
    "user-agent: OpenAI/Python 2.8.0\r\n"
    "x-stainless-lang: python\r\n"
    "x-stainless-package-version: 2.8.0\r\n"
    "x-stainless-os: Linux\r\n"
    "x-stainless-arch: x64\r\n"
    "x-stainless-runtime: CPython\r\n"
    "x-stainless-runtime-version: 3.11.7\r\n"
    "authorization: Bearer sk-0123456789abcdef\r\n"
    "x-stainless-async: false\r\n"
    "x-stainless-retry-count: 0\r\n"
    "x-stainless-read-timeout: 600\r\n"
)
"""What OpenAI's Python client sends."""


def turns(phase: Phase, count: int, first: int = 0) -> list[Turn]:
    """The requests `first` .. `first + count - 1` of the phase, and their answers."""
    numbers = range(first, first + count)
    return [Turn(_request(phase, number), *_answer(phase, number)) for number in numbers]


def _request(phase: Phase, number: int) -> bytes:
    text = f"You are assistant {number % GROUPS:02d}. " + "Answer briefly and cite the manual. " * 1000
    question = f"Question {number:012d}{'?' * (number % 40)}"
    messages = [
        {"role": "system", "content": text[: phase.prompt_bytes - 200]},
        {"role": "user", "content": question},
    ]
    asked = {"model": "bench", "max_tokens": 64, "stream": phase.chunks > 0, "messages": messages}
    body = json.dumps(asked).encode()
    traced = f"traceparent: 00-{number:032x}-{number:016x}-01\r\n" if phase.new_heads else ""
    return f"{_HEAD}{traced}content-length: {len(body)}\r\n\r\n".encode() + body


def _answer(phase: Phase, number: int) -> tuple[bytes, list[bytes]]:
    """In uvicorn's format. A stream's head goes out before its first token; a whole answer is one read."""
    clock = number if phase.new_heads else number // DATE_EVERY
    date = f"Sun, 22 Nov 2026 {clock // 3600 % 24:02d}:{clock // 60 % 60:02d}:{clock % 60:02d} GMT"
    head = f"HTTP/1.1 200 OK\r\ndate: {date}\r\nserver: uvicorn\r\n"
    if not phase.chunks:
        body = _completion("hello " * (20 + number % 10))
        head += f"content-length: {len(body)}\r\ncontent-type: application/json\r\n\r\n"
        return b"", [head.encode() + body]
    head += "content-type: text/event-stream; charset=utf-8\r\ntransfer-encoding: chunked\r\n\r\n"
    return head.encode(), _events(number, phase.chunks)


def _completion(content: str) -> bytes:
    choices = [{"index": 0, "message": {"role": "assistant", "content": content}, "finish_reason": "stop"}]
    usage = {"prompt_tokens": 300, "total_tokens": 340, "completion_tokens": 40}
    answer = {"id": "chatcmpl-1", "object": "chat.completion", "model": "bench", "choices": choices, "usage": usage}
    return json.dumps(answer).encode()


def _events(number: int, count: int) -> list[bytes]:
    head = {"id": f"chatcmpl-{number:08d}", "object": "chat.completion.chunk", "created": 1, "model": "bench"}
    events = []
    for at in range(count):
        choices = [{"index": 0, "delta": {"content": " word" + "s" * (at % 5)}, "finish_reason": None}]
        events.append(_chunk(json.dumps({**head, "choices": choices})))
    return [*events, _chunk("[DONE]") + b"0\r\n\r\n"]


def _chunk(data: str) -> bytes:
    event = f"data: {data}\n\n".encode()
    return b"%x\r\n%b\r\n" % (len(event), event)


class Silence(RuntimeError):
    """The gateway did not pass data on, or not correctly."""


class Stage:
    """A replica with its policy and pods, one client, and the pods' side. Made and used on a `MemoryLoop`."""

    def __init__(self, policy: str = "prefix_aware", *, limited: bool = False, traced: str = "") -> None:
        """`limited`: see `Phase`. `traced`: a collector's URL, which gets the usual sample of traces."""
        loop = asyncio.get_running_loop()
        assert isinstance(loop, MemoryLoop)
        self._asked = loop.asked
        addresses = [f"10.0.0.{at}:8000" for at in range(1, PODS + 1)]
        pool = Pool(name="default", pods=addresses, models=["bench"], policy=PolicySpec(name=policy))
        settings = Settings(
            pools=[pool],
            replica="guard",
            timeouts=Timeouts(upstream_keepalive_s=1e9),
            policy_guard=PolicyGuard(slow_s=1e9),  # on a busy machine five slow picks would end the policy
            auth=Auth(keys_from="state") if limited else None,
            tenants=[TENANT] if limited else [],
            telemetry=Telemetry(otlp_endpoint=traced),
        )
        clock = itertools.count(1000.0, TICK_S).__next__
        self.replica = Replica(build(settings, clock=clock, rng=partial(random.Random(1).getrandbits, 64)))
        parts = self.replica.parts
        parts.pods.registry.on_pods(pool.name, [Pod(PodId(a), a, frozenset(pool.models)) for a in addresses])
        if parts.dataplane.access is not None:
            parts.dataplane.access.control.use([KEY])
        parts.core.lifecycle.enter(LifePhase.WARMING)
        parts.core.lifecycle.enter(LifePhase.READY)
        self._client = Wire(cast(asyncio.Protocol, parts.dataplane.listener.connect()), [])

    async def check(self, turn: Turn) -> None:
        """Play one turn, and check all that the client received. Raises Silence."""
        await self.play([turn])
        got = b"".join(self._client.sent)
        body = b"".join(turn.pieces).partition(b"\r\n\r\n")[2] if not turn.head else b"".join(turn.pieces)
        if not got.startswith(b"HTTP/1.1 200 ") or not got.endswith(b"\r\n\r\n" + body):
            raise Silence(f"a wrong answer: {got[:500]!r}")

    async def play(self, script: list[Turn]) -> None:
        """Play every turn, one after the other. Raises Silence."""
        client, asked, got = self._client, self._asked, self._client.sent
        for request, head, pieces in script:
            got.clear()
            client.deliver(request)
            if not asked:
                await _until(asked)
            pod = asked[-1]
            asked.clear()
            pod.sent.clear()
            if head:
                pod.deliver(head)
            for piece in pieces:
                before = len(got)
                pod.deliver(piece)
                if len(got) == before:
                    await _until(got, before)

    async def close(self) -> None:
        """The client goes, then the replica."""
        self._client.hang_up()
        await self.replica.close()


async def _until(wire: list[Wire] | list[bytes], before: int = 0) -> None:
    """Let a gateway that acts at the end of a loop turn do so."""
    for _ in range(PATIENCE):
        await asyncio.sleep(0)
        if len(wire) > before:
            return
    raise Silence("the gateway did not pass a piece on")
