"""A real HTTP server on 127.0.0.1 that stands in for an engine's side pages; tests change what it says under way."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections import Counter
from collections.abc import AsyncIterator, Callable
from typing import NamedTuple

from schedulers.types import Pod, PodId


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
        """Of the last request."""
        self.pod = Pod(PodId(""), "")
        self.news = asyncio.Event()
        self._open: set[asyncio.StreamWriter] = set()

    async def until(self, met: Callable[[], bool]) -> None:
        """Wait for `met`, looked at after every request and every `news.set()`."""
        async with asyncio.timeout(10):
            while not met():
                self.news.clear()
                await self.news.wait()

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._open.add(writer)
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
                path = head[0].split(" ")[1]
                self.headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in head[1:])}
                self.asked[path] += 1
                page = self.pages.get(path, Page(404))
                if page.silent:
                    self.news.set()
                    await reader.read()
                    break
                writer.write(f"HTTP/1.1 {page.status} X\r\ncontent-length: {len(page.body)}\r\n\r\n".encode())
                if page.hang:
                    writer.write(page.body[: len(page.body) // 2])
                    self.news.set()
                    await reader.read()
                    break
                writer.write(page.body)
                self.news.set()
        self._open.discard(writer)
        writer.close()

    async def aclose(self) -> None:
        """Close every connection, so that no socket outlives the test."""
        for writer in tuple(self._open):
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()


@contextlib.asynccontextmanager
async def engine() -> AsyncIterator[Engine]:
    """An engine on a free port."""
    served = Engine()
    server = await asyncio.start_server(served.handle, "127.0.0.1", 0)
    address = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    served.pod = Pod(PodId(address), address)
    try:
        yield served
    finally:
        server.close()
        await served.aclose()


def refusing() -> Pod:
    """A pod whose port nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    return Pod(PodId(address), address)
