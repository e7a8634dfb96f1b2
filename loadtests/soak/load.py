"""The clients of a soak: users who send one request after the other, a fixed share of which goes wrong on purpose.

Every prompt is new, so that whatever is kept for a prompt, a session or a client has to be given up again.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Callable, Mapping
from itertools import count
from typing import Final

import msgspec

from loadtests.sim.http_client import TIMEOUT, ClientConnection
from loadtests.sim.ports import HOST

TIMEOUT_S: Final = 60.0
MODEL: Final = "sim-model"
SYSTEM: Final = "Answer in a few words, and only from what you know. " * 12
"""156 tokens that all prompts share."""


def _chat(number: int, **fields: object) -> tuple[str, bytes]:
    content = f"{SYSTEM}{number:x}: what is {number * 2654435761 % 2**32:x}?"
    body = {"model": MODEL, "messages": [{"role": "user", "content": content}], "max_tokens": 4, **fields}
    return "/v1/chat/completions", msgspec.json.encode(body)


KINDS: Final[Mapping[str, tuple[int, Callable[[int], tuple[str, bytes]]]]] = {
    "whole": (56, _chat),
    "stream": (20, lambda number: _chat(number, stream=True)),
    "left at once": (6, lambda number: _chat(number, stream=True, max_tokens=40)),
    "left in the middle": (8, lambda number: _chat(number, stream=True, max_tokens=40)),
    "unknown model": (3, lambda number: _chat(number, model=f"model-{number}")),
    "no JSON": (3, lambda number: ("/v1/chat/completions", b'{"model": "sim-model", "messages": [%d' % number)),
    "unknown path": (2, lambda number: (f"/v1/unknown/{number}", b"{}")),
    "refused by the engine": (2, lambda number: _chat(number, max_tokens=-1)),
}
"""Each kind's weight, and its path and body by the request's number."""
LEFT_AFTER_S: Final = 0.004
"""From sending to the end of the connection, of a client that leaves at once."""


class _Leaving(ClientConnection):
    """A connection whose client may leave at the answer's first piece."""

    leaves = False

    def on_body(self, data: bytes) -> None:
        super().on_body(data)
        if self.leaves:
            self.abort()


class SoakLoad:
    """All users. `sent` and `outcomes` grow while `run` runs."""

    def __init__(self, port: int, seed: int = 0) -> None:
        self._port = port
        self._rng = random.Random(seed)
        self._numbers = count()
        self.sent = 0
        self.outcomes: Counter[str] = Counter()
        """By kind and status; a request without a status has ended as its client wanted, or is a failure."""

    async def run(self, requests: int, users: int) -> None:
        """Send this many more requests, and wait for the last one."""
        last = self.sent + requests
        async with asyncio.TaskGroup() as group:
            for _ in range(users):
                group.create_task(self._user(last))

    async def _user(self, last: int) -> None:
        connection: _Leaving | None = None
        names, weights = list(KINDS), [weight for weight, _ in KINDS.values()]
        while self.sent < last:
            self.sent += 1
            (kind,) = self._rng.choices(names, weights)
            if connection is None or not connection.usable:
                loop = asyncio.get_running_loop()
                connection = (await loop.create_connection(_Leaving, HOST, self._port))[1]
            await self._one(connection, kind)
        if connection is not None:
            connection.abort()

    async def _one(self, connection: _Leaving, kind: str) -> None:
        number = next(self._numbers)
        path, body = KINDS[kind][1](number)
        head = f"POST {path} HTTP/1.1\r\nhost: {HOST}\r\ncontent-type: application/json\r\nx-session-id: s{number}\r\n"
        connection.leaves = kind == "left in the middle"
        leaving = None
        if kind == "left at once":
            leaving = asyncio.get_running_loop().call_later(LEFT_AFTER_S, connection.abort)
        try:
            async with asyncio.timeout(TIMEOUT_S):
                answer = await connection.exchange(f"{head}content-length: {len(body)}\r\n\r\n".encode() + body)
            self.outcomes[f"{kind}: {answer.status or 'left'}"] += 1
        except TimeoutError:
            self.outcomes[f"{kind}: {TIMEOUT}"] += 1
            connection.abort()
        finally:
            if leaving is not None:
                leaving.cancel()
