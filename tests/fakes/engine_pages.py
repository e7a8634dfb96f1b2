"""A real HTTP server on 127.0.0.1 in place of an engine's models and metrics pages; tests may change the pages."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Callable
from typing import NamedTuple

from loadtests.processes.stream_server import stream_server
from loadtests.sim.ports import HOST, free_ports
from schedulers.types import Pod, PodId
from tests.fakes.waiting import DEADLINE_S


class Page(NamedTuple):
    """An answer."""

    status: int = 200
    body: bytes = b""
    hang: bool = False
    """Send the head and half of the body, then nothing."""
    silent: bool = False
    """Take the request and never answer."""


class Engine:
    """Serves `pages` by path; anything else is 404."""

    def __init__(self) -> None:
        self.pages: dict[str, Page] = {}
        self.asked: Counter[str] = Counter()
        self.connections = 0
        self.headers: dict[str, str] = {}
        """Headers of the last request."""
        self.pod = Pod(PodId(""), "")
        self.changed = asyncio.Event()

    async def until(self, met: Callable[[], bool]) -> None:
        """Wait until `met` holds; it is checked after every request and every `changed.set()`."""
        async with asyncio.timeout(DEADLINE_S):
            while not met():
                self.changed.clear()
                await self.changed.wait()

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        while True:
            head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
            path = head[0].split(" ")[1]
            self.headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in head[1:])}
            self.asked[path] += 1
            page = self.pages.get(path, Page(404))
            if not page.silent:
                writer.write(f"HTTP/1.1 {page.status} X\r\ncontent-length: {len(page.body)}\r\n\r\n".encode())
                writer.write(page.body[: len(page.body) // 2] if page.hang else page.body)
            self.changed.set()
            if page.silent or page.hang:
                await reader.read()  # until the client disconnects
                break


@contextlib.asynccontextmanager
async def engine() -> AsyncIterator[Engine]:
    """Run an engine on a free port."""
    served = Engine()
    async with stream_server(served.handle) as port:
        served.pod = Pod(PodId(f"{HOST}:{port}"), f"{HOST}:{port}")
        yield served


def refusing() -> Pod:
    """A pod on whose port nothing listens."""
    address = f"{HOST}:{free_ports(1)[0]}"
    return Pod(PodId(address), address)
