"""The clients: requests at random times at a constant mean rate, whatever the answers take, over all replicas.

A request goes to a replica that the rotation names at that moment. One that is refused the connection goes to another
one, as from a load balancer; nothing that was sent is sent again.
"""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from time import perf_counter
from typing import Final, NamedTuple

import msgspec

from loadtests.chaos.requests import Asked, draw
from loadtests.sim.http_client import TIMEOUT, Answer, ClientConnection
from loadtests.sim.ports import HOST

TIMEOUT_S: Final = 90.0
"""A client's patience: longer than any limit of the gateway."""
KEPT: Final = 16
"""Idle connections kept for each replica."""


class Sent(NamedTuple):
    """A request that was accepted, and its answer."""

    asked: Asked
    answer: Answer
    replica: str


class _Connection(ClientConnection):
    """A connection whose client may leave in the middle of an answer."""

    leave_after = 0

    def on_body(self, data: bytes) -> None:
        super().on_body(data)
        if self.leave_after and len(self.answer.pieces) >= self.leave_after:
            self.abort()


class ChaosLoad:
    """All clients. `rotation` names the replicas and their ports as a load balancer would use them now."""

    def __init__(
        self, rotation: Callable[[], Sequence[tuple[str, int]]], models: Mapping[str, int], rate: float, seed: int
    ) -> None:
        self._rotation, self._models, self._rate = rotation, models, rate
        self._requests, self._times = random.Random(f"{seed} requests"), random.Random(f"{seed} times")
        self._idle: dict[int, deque[_Connection]] = {}
        self.sent: list[Sent] = []
        self.refused = 0
        """Connections that a replica refused; their requests went to another one."""
        self.open = 0

    async def run(self, seconds: float) -> None:
        """Send for this long, then wait for the last answer."""
        began, due = perf_counter(), 0.0
        async with asyncio.TaskGroup() as group:
            number = 0
            while (due := due + self._times.expovariate(self._rate)) < seconds:
                await asyncio.sleep(max(0.0, began + due - perf_counter()))
                group.create_task(self._one(draw(self._requests, number, self._models)))
                number += 1
        self.close()

    def close(self) -> None:
        """Close the idle connections."""
        for kept in self._idle.values():
            for connection in kept:
                connection.abort()
        self._idle.clear()

    async def _one(self, asked: Asked) -> None:
        self.open += 1
        try:
            replica, port, connection = await self._connected()
            connection.leave_after = asked.leave_after
            answer = await self._exchange(connection, _bytes_of(asked, port))
            self.sent.append(Sent(asked, answer, replica))
            kept = self._idle.setdefault(port, deque())
            if connection.usable and len(kept) < KEPT:
                kept.append(connection)
            else:
                connection.abort()
        finally:
            self.open -= 1

    async def _exchange(self, connection: _Connection, request: bytes) -> Answer:
        try:
            async with asyncio.timeout(TIMEOUT_S):
                return await connection.exchange(request)
        except TimeoutError:
            answer = connection.answer
            answer.failure, answer.ended_at = TIMEOUT, perf_counter()
            connection.abort()
            return answer

    async def _connected(self) -> tuple[str, int, _Connection]:
        """A connection to one of the replicas. A kept one is used only if it is still open at this moment."""
        loop, began = asyncio.get_running_loop(), perf_counter()
        while True:
            rotation = self._rotation()
            replica, port = rotation[len(self.sent) % len(rotation)] if rotation else ("", 0)
            kept = self._idle.get(port)
            while kept:
                connection = kept.pop()
                if connection.usable:
                    return replica, port, connection
            try:
                if port:
                    return replica, port, (await loop.create_connection(_Connection, HOST, port))[1]
            except OSError:
                self.refused += 1
            if perf_counter() - began > TIMEOUT_S:
                raise RuntimeError("no replica accepts connections")
            await asyncio.sleep(0.05)


def _bytes_of(asked: Asked, port: int) -> bytes:
    body = msgspec.json.encode(asked.body)
    head = f"POST {asked.path} HTTP/1.1\r\nhost: {HOST}:{port}\r\ncontent-type: application/json\r\n"
    return f"{head}x-session-id: {asked.session}\r\ncontent-length: {len(body)}\r\n\r\n".encode() + body
