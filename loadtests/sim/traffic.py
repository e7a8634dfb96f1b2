"""The closed-loop load: users that hold multi-turn conversations over streams, and the latencies they saw.

Each user has one request at a time, so the rate follows the latency. `turnout demo` and the soaks use it;
`loadtests/upgrade/load.py` sends at a constant rate instead.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter, deque
from collections.abc import Sequence
from typing import NamedTuple
from urllib.parse import urlsplit

from loadtests.sim import chat
from loadtests.sim.chat import Reply, TrafficError
from loadtests.sim.conversation import Conversation, Shape
from loadtests.sim.http_client import Client

_KEPT = 4096
"""Latencies are those of the latest requests (gaps: tokens), at most this many."""


class TrafficStats(NamedTuple):
    """A snapshot of what users saw, in seconds and tokens."""

    requests: int
    """Answered completely."""
    errors: int
    errors_by_kind: dict[str, int]
    """`connect`, `timeout`, `truncated`, `connection_lost`, `http_503`, ..."""
    inflight: int
    ttft_p50_s: float
    ttft_p99_s: float
    itl_p50_s: float
    itl_p99_s: float
    output_tokens: int
    tokens_per_s: float
    """Output tokens per second since the start."""
    cached_share: float
    """Share of prompt tokens that pods read from their caches, by the `usage` of their answers."""
    by_pod: dict[str, int]
    """Requests by the pod that answered."""


class Traffic:
    """`users` conversations against one base URL (`http://host:port`)."""

    def __init__(
        self,
        base_url: str,
        model: str,
        users: int,
        *,
        shape: Shape | None = None,
        seed: int = 0,
        timeout_s: float = 300.0,
        pod_header: str = "x-inference-pod",
        api_key: str = "",
    ) -> None:
        parts = urlsplit(base_url)
        if parts.scheme != "http" or parts.hostname is None:
            raise ValueError(f"{base_url}: only http://host:port")
        self._host, self._port = parts.hostname, parts.port or 80
        self._model, self._users, self._shape = model, users, shape or Shape()
        self._seed, self._timeout_s, self._pod_header, self._api_key = seed, timeout_s, pod_header, api_key
        self._left: int | None = None
        self._started_at: float | None = None
        self._ended_at: float | None = None
        self._ttfts: deque[float] = deque(maxlen=_KEPT)
        self._gaps: deque[float] = deque(maxlen=_KEPT)
        self._errors: Counter[str] = Counter()
        self._pods: Counter[str] = Counter()
        self._requests = self._inflight = self._output = self._prompt = self._cached = 0

    async def run(self, *, requests: int | None = None) -> None:
        """Run until `requests` requests were sent and answered; by default until cancelled."""
        loop = asyncio.get_running_loop()
        self._left, self._started_at, self._ended_at = requests, loop.time(), None
        try:
            async with asyncio.TaskGroup() as group:
                for user in range(self._users):
                    group.create_task(self._user(user))
        finally:
            self._ended_at = loop.time()

    @property
    def stats(self) -> TrafficStats:
        """The numbers so far; read it on the event loop or after the run."""
        ttfts, gaps = sorted(self._ttfts), sorted(self._gaps)
        seconds = self._elapsed_s()
        return TrafficStats(
            requests=self._requests,
            errors=self._errors.total(),
            errors_by_kind=dict(self._errors),
            inflight=self._inflight,
            ttft_p50_s=quantile(ttfts, 0.5),
            ttft_p99_s=quantile(ttfts, 0.99),
            itl_p50_s=quantile(gaps, 0.5),
            itl_p99_s=quantile(gaps, 0.99),
            output_tokens=self._output,
            tokens_per_s=self._output / seconds if seconds > 0 else 0.0,
            cached_share=self._cached / self._prompt if self._prompt else 0.0,
            by_pod=dict(self._pods),
        )

    def _elapsed_s(self) -> float:
        if self._started_at is None:
            return 0.0
        ended_at = self._ended_at if self._ended_at is not None else asyncio.get_running_loop().time()
        return ended_at - self._started_at

    async def _user(self, number: int) -> None:
        conversation = Conversation(self._shape, self._seed * 100_003 + number)
        client = Client(self._host, self._port, resend=True)
        backoff = random.Random(number)
        try:
            while self._take():
                try:
                    await self._turn(client, conversation)
                except TrafficError as error:
                    self._errors[error.kind] += 1
                    conversation.failed()
                    await asyncio.sleep(backoff.uniform(0.05, 0.2))
                await asyncio.sleep(conversation.pause_s())
        finally:
            client.close()

    def _take(self) -> bool:
        """Whether another request may be sent."""
        if self._left is None:
            return True
        self._left -= 1
        return self._left >= 0

    async def _turn(self, client: Client, conversation: Conversation) -> None:
        body = chat.body(self._model, conversation.ask(), self._shape.max_tokens)
        headers = {"x-session-id": conversation.session}
        if self._api_key:
            headers["authorization"] = f"Bearer {self._api_key}"
        self._inflight += 1
        try:
            answer = await client.post(chat.PATH, body, self._timeout_s, headers)
        finally:
            self._inflight -= 1
        reply = chat.reply(answer)
        self._count(reply)
        conversation.answered("".join(reply.text))

    def _count(self, reply: Reply) -> None:
        self._requests += 1
        self._ttfts.append(reply.ttft_s)
        self._gaps.extend(reply.gaps_s)
        self._output += reply.usage.completion_tokens or len(reply.text)
        self._prompt += reply.usage.prompt_tokens
        self._cached += reply.usage.cached_tokens
        self._pods[reply.headers.get(self._pod_header, "")] += 1


def quantile(ordered: Sequence[float], share: float) -> float:
    """The value that `share` of the ordered values do not exceed; 0.0 of none."""
    if not ordered:
        return 0.0
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]
