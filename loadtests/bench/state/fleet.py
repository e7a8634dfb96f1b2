"""The processes of a measurement: replicas that take orders and answer with results. Each ends with the block."""

from __future__ import annotations

import asyncio
import json
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

from loadtests.bench.state.replica import LINE_BYTES

PATIENCE_S = 120.0
"""For an answer, on top of the order's own time."""

QUIET = "memory://"


class ReplicaFailed(Exception):
    """A replica ended, or did not answer in time."""


class ReplicaHandle:
    """A replica's process."""

    def __init__(self, name: str, process: Process) -> None:
        self.name = name
        self._process = process

    @property
    def pid(self) -> int:
        """Its pid."""
        return self._process.pid

    async def do(self, verb: str, **order: Any) -> dict[str, Any]:
        """Give an order and wait for the answer. Raises ReplicaFailed."""
        reads, writes = self._process.stdout, self._process.stdin
        assert reads is not None and writes is not None
        try:
            async with asyncio.timeout(PATIENCE_S + order.get("seconds", 0.0)):
                writes.write(json.dumps({"do": verb, **order}).encode() + b"\n")
                line = await reads.readline()
        except (TimeoutError, OSError) as error:
            raise ReplicaFailed(f"{self.name} did not answer to {verb}: {error!r}") from error
        if not line:
            raise ReplicaFailed(f"{self.name} ended at {verb}")
        answer: dict[str, Any] = json.loads(line)
        return answer

    async def end(self) -> None:
        """Let it close its store; kill it if it does not."""
        if self._process.stdin is not None:
            self._process.stdin.close()
        try:
            async with asyncio.timeout(10.0):
                await self._process.wait()
        except TimeoutError:
            self._process.kill()
            await self._process.wait()


@asynccontextmanager
async def replica(name: str, url: str, pods: int, checkpoint_s: float = 3600.0) -> AsyncIterator[ReplicaHandle]:
    """One process, not started yet as a replica (`do("start")`)."""
    command = (sys.executable, "-m", "loadtests.bench.state.replica", name, url, str(pods), str(checkpoint_s))
    handle = ReplicaHandle(
        name, await asyncio.create_subprocess_exec(*command, stdin=PIPE, stdout=PIPE, limit=LINE_BYTES)
    )
    try:
        yield handle
    finally:
        await handle.end()


@asynccontextmanager
async def fleet(count: int, url: str, pods: int) -> AsyncIterator[list[ReplicaHandle]]:
    """`count` replicas, each warm."""
    async with AsyncExitStack() as stack:
        made = [await stack.enter_async_context(replica(f"replica-{at}", url, pods)) for at in range(count)]
        await everyone(made, "start")
        yield made


async def everyone(replicas: list[ReplicaHandle], verb: str, **order: Any) -> list[dict[str, Any]]:
    """The same order to all at the same time."""
    return await asyncio.gather(*[each.do(verb, **order) for each in replicas])
