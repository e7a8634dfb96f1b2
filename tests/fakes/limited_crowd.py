"""Clients of tenants with limits, over real sockets, and an account of what each limit let in: requests and tokens
beside what its bucket allows in the time, streams by the most that were open at once.
"""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import Sequence
from contextlib import suppress
from random import Random
from statistics import quantiles
from typing import Final, NamedTuple

from statesync.tasks import spawn
from tests.fakes.gateway_process import GatewayProcess
from tests.fakes.sim_process import MODEL
from tests.fakes.waiting import DEADLINE_S

REQUESTS, TOKENS, STREAMS = "requests", "tokens", "streams"

OVERLOAD: Final = 4.0
"""What comes, as a multiple of the limit: more than the minute's units with which a bucket begins."""

STREAM_OVERLOAD: Final = 1.5
"""The same of streams."""

HOLD_S: Final = 4.0
"""Mean seconds for which a stream is held."""

REQUEST_TOKENS: Final = 9
"""About what one request of the crowd costs, for the rate at which the tenants with token limits send."""

_USED: Final = re.compile(rb'"total_tokens":\s*(\d+)')


class Limited(NamedTuple):
    """A tenant and its one limit."""

    tenant: str
    kind: str
    limit: int
    """Requests or tokens a minute, or streams at a time."""

    @property
    def per_s(self) -> float:
        """Requests a second that its clients send."""
        if self.kind == STREAMS:
            return STREAM_OVERLOAD * self.limit / HOLD_S
        return OVERLOAD * self.limit / 60 / (REQUEST_TOKENS if self.kind == TOKENS else 1)


class Asked(NamedTuple):
    """A request and what became of it."""

    of: Limited
    at: float
    status: int
    """0 where its replica was killed."""
    took_s: float
    """Until the head of the answer."""
    ended: float
    tokens: int = 0


def request(key: str, max_tokens: int = 1, *, stream: bool = False) -> bytes:
    """A chat over a connection of its own."""
    asked = {"model": MODEL, "max_tokens": max_tokens, "stream": stream, "ignore_eos": True}
    body = json.dumps(asked | {"messages": [{"role": "user", "content": "hello"}]}).encode()
    head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {key}\r\nconnection: close\r\n"
    return f"{head}content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n".encode() + body


class Crowd:
    """The clients of all tenants: requests at random times to random replicas."""

    def __init__(self, tenants: Sequence[Limited], replicas: list[GatewayProcess]) -> None:
        self.tenants = tenants
        self.replicas = replicas
        self.asked: list[Asked] = []
        self._rng = Random(3)
        self._open: set[asyncio.Task[None]] = set()

    async def run(self, seconds: float) -> None:
        """Let them all ask for this time; returns when all are answered."""
        end = time.monotonic() + seconds
        async with asyncio.timeout(seconds + DEADLINE_S):
            await asyncio.gather(*(self._tenant(of, end) for of in self.tenants))
            await asyncio.gather(*self._open)

    async def _tenant(self, of: Limited, end: float) -> None:
        due = time.monotonic()
        while (due := due + self._rng.expovariate(of.per_s)) < end:
            await asyncio.sleep(due - time.monotonic())
            task = spawn(self._ask(of, self._rng.choice(self.replicas)), "request")
            self._open.add(task)
            task.add_done_callback(self._open.discard)

    async def _ask(self, of: Limited, replica: GatewayProcess) -> None:
        streams = of.kind == STREAMS
        began = time.monotonic()
        status, took_s, body = 0, 0.0, b""
        with suppress(OSError, IndexError, asyncio.IncompleteReadError):
            reader, writer = await asyncio.open_connection(replica.host, replica.port)
            writer.write(request(f"key-{of.tenant}", 1000 if streams else 1, stream=streams))
            head = await reader.readuntil(b"\r\n\r\n")
            status, took_s = int(head.split(b" ", 2)[1]), time.monotonic() - began
            if streams and status == 200:
                await self._hold(reader)
            else:
                body = await reader.read()
            ended = (
                time.monotonic()
            )  # before the replica can know, so that no stream counts for longer than it was open
            writer.close()
            self.asked.append(Asked(of, began, status, took_s, ended, _tokens(body)))
            return
        self.asked.append(Asked(of, began, status, took_s, time.monotonic()))

    async def _hold(self, reader: asyncio.StreamReader) -> None:
        """Read a stream for a while, or to its end."""
        with suppress(TimeoutError):
            async with asyncio.timeout(HOLD_S * self._rng.uniform(0.5, 1.5)):
                while await reader.read(65536):
                    pass


def _tokens(body: bytes) -> int:
    found = _USED.search(body)
    return int(found[1]) if found else 0


class Admitted(NamedTuple):
    """What one limit let in."""

    of: Limited
    offered: int
    """Requests."""
    admitted: float
    """Requests, tokens, or the most streams at once."""
    most: float
    """What the limit allows of it at most."""
    mean: float = 0.0
    """Streams that were open on average, while requests came."""
    beyond: float = 0.0
    """Those beyond the limit, on average."""


def account(tenants: Sequence[Limited], asked: Sequence[Asked]) -> list[Admitted]:
    """A row for each tenant, of requests that were sent without a break."""
    return [_account(of, sorted([each for each in asked if each.of == of], key=lambda each: each.at)) for of in tenants]


def _account(of: Limited, asked: Sequence[Asked]) -> Admitted:
    good = [each for each in asked if each.status == 200]
    if of.kind == STREAMS:
        last = asked[-1].at
        spans = [(each.at + each.took_s, min(each.ended, last)) for each in good if each.at + each.took_s < last]
        return Admitted(of, len(asked), *at_once(spans, of.limit))
    # From the first request to the last answer: a request may be admitted at any time until its answer.
    seconds = max(each.at + each.took_s for each in asked) - asked[0].at
    admitted = sum(each.tokens for each in good) if of.kind == TOKENS else len(good)
    return Admitted(of, len(asked), admitted, of.limit + of.limit / 60 * seconds)


def at_once(spans: Sequence[tuple[float, float]], limit: int) -> tuple[int, int, float, float]:
    """The most spans at one moment, the limit, and the mean numbers of spans and of those beyond the limit."""
    changes = sorted([(began, 1) for began, _ in spans] + [(ended, -1) for _, ended in spans])
    most = open_now = 0
    whole, beyond, last = 0.0, 0.0, changes[0][0]
    for at, change in changes:
        whole += open_now * (at - last)
        beyond += max(0, open_now - limit) * (at - last)
        last = at
        open_now += change
        most = max(most, open_now)
    passed = last - changes[0][0]
    return most, limit, whole / passed, beyond / passed


def table(title: str, rows: Sequence[Admitted], asked: Sequence[Asked]) -> str:
    """All of it as text."""
    lines = [title, "tenant  limit                 offered  admitted  allowed"]
    for row in rows:
        limit = f"{row.of.limit} {row.of.kind}{' at once' if row.of.kind == STREAMS else '/min'}"
        lines.append(f"{row.of.tenant:6}  {limit:20} {row.offered:8} {row.admitted:9.0f} {row.most:8.0f}")
    for kind in (REQUESTS, TOKENS, STREAMS):
        of_kind = [row for row in rows if row.of.kind == kind]
        admitted, most, mean, beyond = (sum(column) for column in list(zip(*of_kind, strict=True))[2:])
        lines.append(f"{kind}: {admitted:.0f} of {most:.0f} allowed, {100 * (admitted / most - 1):+.1f} %")
        if kind == STREAMS:
            lines.append(f"on average {mean:.1f} were open, {beyond:.2f} of them beyond a limit")
    for status in (200, 429):
        cuts = quantiles([1000 * each.took_s for each in asked if each.status == status] or [0.0, 0.0], n=100)
        lines.append(f"first byte of a {status}: p50 {cuts[49]:.1f} ms, p99 {cuts[98]:.1f} ms")
    return "\n".join(lines)
