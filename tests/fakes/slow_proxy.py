"""A TCP proxy that holds back what the server says, for so long as it is told: a Redis that is far away or overloaded.

Bytes keep their order and none is lost. It runs on an event loop in a thread of its own.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import cast

from loadtests.ports import HOST
from statesync.tasks import spawn


class SlowLink:
    """Listens on `port`, forwards to `target`; `delay_s` may be changed at any time."""

    def __init__(self, target: int) -> None:
        self.delay_s = 0.0
        self.port = 0
        self.held = 0
        """Pieces that were held back."""
        self._target = target
        self._loop = asyncio.new_event_loop()
        self._listening = threading.Event()
        self._over = asyncio.Event()
        self._thread = threading.Thread(target=lambda: self._loop.run_until_complete(self._serve()), name="slow-link")

    async def _serve(self) -> None:
        server = await self._loop.create_server(lambda: _Near(self), HOST, 0)
        self.port = server.sockets[0].getsockname()[1]
        self._listening.set()
        await self._over.wait()
        server.close()

    def start(self) -> None:
        """Returns once it listens."""
        self._thread.start()
        assert self._listening.wait(10.0)

    def stop(self) -> None:
        """No more connections; those that are open go with the loop."""
        self._loop.call_soon_threadsafe(self._over.set)
        self._thread.join(10.0)
        self._loop.close()

    async def join(self, near: _Near) -> None:
        """Connect a client to the server."""
        try:
            _, far = await self._loop.create_connection(lambda: _Far(self, near), HOST, self._target)
        except OSError:
            near.transport.abort()
            return
        near.joined(far)


class _Near(asyncio.Protocol):
    """The client's side: what it says goes on at once."""

    def __init__(self, link: SlowLink) -> None:
        self._link = link
        self._far: _Far | None = None
        self._early: list[bytes] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        spawn(self._link.join(self), "slow-link")

    def joined(self, far: _Far) -> None:
        self._far = far
        far.transport.write(b"".join(self._early))
        if self.transport.is_closing():
            far.transport.abort()

    def data_received(self, data: bytes) -> None:
        if self._far is None:
            self._early.append(data)
        else:
            self._far.transport.write(data)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._far is not None:
            self._far.transport.abort()


class _Far(asyncio.Protocol):
    """The server's side: what it says comes late."""

    def __init__(self, link: SlowLink, near: _Near) -> None:
        self._link, self._near = link, near
        self._last_at = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        loop = asyncio.get_running_loop()
        # A delay that was lowered must not let later bytes overtake.
        self._last_at = max(self._last_at, loop.time() + self._link.delay_s)
        self._link.held += self._link.delay_s > 0
        loop.call_at(self._last_at, self._near.transport.write, data)

    def connection_lost(self, exc: Exception | None) -> None:
        self._near.transport.abort()


@contextmanager
def slow_link(target: int) -> Iterator[SlowLink]:
    """A proxy to the port `target` for the block."""
    link = SlowLink(target)
    link.start()
    try:
        yield link
    finally:
        link.stop()
