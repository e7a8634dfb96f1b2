"""A Service as a node sees it: a TCP port that deals each new connection to one of the endpoints it knows, at random,
and passes bytes both ways. It never retries, so that no failure is hidden: a refused connection is reset.
"""

from __future__ import annotations

import asyncio
import random
from typing import cast

from loadtests.sim.ports import HOST


class _Half(asyncio.Protocol):
    """One side of a connection, which writes what it reads to the other."""

    def __init__(self, other: _Half | None = None) -> None:
        self.transport: asyncio.Transport | None = None
        self.other = other
        self.early: list[bytes] = []
        """Bytes received before the other side was connected."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Connected."""
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        """Pass it on."""
        if self.other is None or self.other.transport is None:
            self.early.append(data)
        else:
            self.other.transport.write(data)

    def pause_writing(self) -> None:
        """Its reader is slow, so the other side stops reading."""
        if self.other is not None and self.other.transport is not None:
            self.other.transport.pause_reading()

    def resume_writing(self) -> None:
        """The other side reads again."""
        if self.other is not None and self.other.transport is not None:
            self.other.transport.resume_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        """Close the other side after the bytes written to it."""
        self.transport = None
        if self.other is not None and self.other.transport is not None:
            self.other.transport.close()


class _Client(_Half):
    """The accepted connection."""

    def __init__(self, balancer: Balancer) -> None:
        super().__init__()
        self._balancer = balancer

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Choose an endpoint for the whole connection."""
        super().connection_made(transport)
        self._balancer.connect(self)


class Balancer:
    """The balancer of one node. `port` is known after `start`."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._endpoints: list[int] = []
        self._server: asyncio.Server | None = None
        self._connecting: set[asyncio.Task[None]] = set()
        self.port = 0
        self.refused = 0
        """Number of connections that no endpoint accepted."""

    async def start(self) -> None:
        """Start listening."""
        self._server = await asyncio.get_running_loop().create_server(lambda: _Client(self), HOST, 0)
        self.port = int(self._server.sockets[0].getsockname()[1])

    def stop(self) -> None:
        """Stop listening."""
        if self._server is not None:
            self._server.close()

    def add(self, port: int) -> None:
        """Add an endpoint."""
        if port not in self._endpoints:
            self._endpoints.append(port)

    def remove(self, port: int) -> None:
        """Remove an endpoint; its connections stay open, as conntrack keeps them."""
        if port in self._endpoints:
            self._endpoints.remove(port)

    @property
    def endpoints(self) -> frozenset[int]:
        """The endpoints it knows."""
        return frozenset(self._endpoints)

    def connect(self, client: _Half) -> None:
        """Connect the client to an endpoint."""
        task = asyncio.get_running_loop().create_task(self._connect(client))
        self._connecting.add(task)
        task.add_done_callback(self._connecting.discard)

    async def _connect(self, client: _Half) -> None:
        try:
            port = self._rng.choice(self._endpoints)
            loop = asyncio.get_running_loop()
            _, server = await loop.create_connection(lambda: _Half(client), HOST, port)
        except (OSError, IndexError):
            self.refused += 1
            if client.transport is not None:
                client.transport.abort()
            return
        client.other = server
        if client.transport is None:
            if server.transport is not None:
                server.transport.close()
            return
        for data in client.early:
            assert server.transport is not None
            server.transport.write(data)
