"""The inference port: the listening socket and the open client connections. Lives as long as the process; no request
logic."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import Generic, cast

from router.address import ListenAddress, bind
from router.dataplane.http.deadlines import Deadlines
from router.dataplane.http.edge import Edge, R, RequestHandler
from router.dataplane.http.forwarded import peer_of
from router.dataplane.http.responses import Headers
from router.dataplane.http.write_batcher import WriteBatcher
from router.errors import GatewayError
from router.settings import Limits, Timeouts

_BACKLOG = 4096
"""Connections that the kernel keeps until they are accepted."""


class Listener(Generic[R]):
    """Accepts clients until it is stopped, and keeps the open connections."""

    def __init__(
        self,
        requests: RequestHandler[R],
        deadlines: Deadlines,
        limits: Limits,
        timeouts: Timeouts,
        on_refused: Callable[[GatewayError], Headers],
        write_batcher: WriteBatcher | None = None,
        *,
        keep_peers: bool = False,
    ) -> None:
        """`on_refused` is called for bytes that never became a request; it returns the headers of the answer.
        `keep_peers`: note each client's address, which the system forgets when a connection breaks."""
        self.requests = requests
        self.deadlines = deadlines
        self.limits = limits
        self.timeouts = timeouts
        self.refused = on_refused
        self.write_batcher = write_batcher or WriteBatcher()
        self.edges: set[Edge[R]] = set()
        self.stopped = False
        self._keep_peers = keep_peers
        self._server: asyncio.Server | None = None

    def connect(self) -> Edge[R]:
        """The protocol of a new connection, for asyncio."""
        return Edge(self.requests, self, self.deadlines.clock)

    async def start(self, host: str, port: int, lent: socket.socket | None = None) -> int:
        """Listen; returns the port, which the kernel chooses if `port` is 0. Raises OSError when it is in use.

        `lent` is a socket, already bound, to listen on instead.
        """
        loop = asyncio.get_running_loop()
        if lent is None and host == "::":
            lent = bind(ListenAddress(host, port))  # asyncio would take IPv6 only
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        connect = cast(Callable[[], asyncio.Protocol], self.connect)
        if lent is not None:
            self._server = await loop.create_server(connect, sock=lent, backlog=_BACKLOG)
        else:
            self._server = await loop.create_server(
                connect, host or "0.0.0.0", port, family=family, backlog=_BACKLOG, reuse_address=True
            )
        bound: int = self._server.sockets[0].getsockname()[1]
        return bound

    def opened(self, edge: Edge[R]) -> bool:
        """Add a connection; False when there are more than `max_connections`."""
        self.edges.add(edge)
        if self._keep_peers:
            edge.peer = peer_of(edge.transport)
        self.deadlines.members.add(edge)
        return len(self.edges) <= self.limits.max_connections

    def closed(self, edge: Edge[R]) -> None:
        """Remove a connection."""
        self.edges.discard(edge)
        self.deadlines.members.discard(edge)

    def stop_accepting(self) -> None:
        """Accept no more; open connections stay."""
        if self._server is not None:
            self._server.close()
            self._server = None

    def new(self) -> list[Edge[R]]:
        """Connections whose first request has not come. Each may stay so for `client_header_s`."""
        return [edge for edge in self.edges if edge.idle and not edge.used]

    def stop(self, *, spare_new: bool = False) -> None:
        """Accept no more and close the idle connections; busy ones close after their answer.

        `spare_new`: connections without a first request stay open, as in `new`.
        """
        self.stopped = True
        self.stop_accepting()
        for edge in [edge for edge in self.edges if edge.idle and (edge.used or not spare_new)]:
            edge.close()

    def abort(self) -> None:
        """Close every connection at once."""
        for edge in list(self.edges):
            edge.abort()
