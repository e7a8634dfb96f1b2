"""The inference port: the listening socket and the open client connections. Lives as long as the process; no request
logic."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Callable
from typing import Final, Generic, cast

from router.address import ListenAddress, bind
from router.dataplane.http.buffer_budget import BufferBudget
from router.dataplane.http.deadlines import Deadlines
from router.dataplane.http.edge import Edge, RequestHandler
from router.dataplane.http.forwarded import peer_of
from router.dataplane.http.open_request import R
from router.dataplane.http.responses import Headers
from router.dataplane.http.write_batcher import WriteBatcher
from router.errors import GatewayError, Shed
from router.settings import Limits, Timeouts

_BACKLOG: Final = 4096
"""Connections that the kernel keeps until they are accepted."""

_REFUSALS: Final = 64
"""Connections above the limit that are answered before they are closed; others are closed at once."""


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
        self.budget = BufferBudget(limits.buffer_budget_bytes)
        self.most = limits.max_connections
        """Connections; fewer than configured where the process may not open enough files."""
        self.backlog = _BACKLOG
        self._by_client: dict[str, int] = {}
        """Connections by address, where they are limited."""
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
            self._server = await loop.create_server(connect, sock=lent, backlog=self.backlog)
        else:
            self._server = await loop.create_server(
                connect, host or "0.0.0.0", port, family=family, backlog=self.backlog, reuse_address=True
            )
        bound: int = self._server.sockets[0].getsockname()[1]
        return bound

    def opened(self, edge: Edge[R]) -> Shed | None:
        """Add a connection; returns why it is refused, if it is."""
        self.edges.add(edge)
        most_each = self.limits.max_connections_per_client
        if self._keep_peers or most_each:
            edge.peer = peer_of(edge.transport)
        self.deadlines.members.add(edge)
        if most_each and edge.peer:
            client = client_of(edge.peer)
            count = self._by_client[client] = self._by_client.get(client, 0) + 1
            if count > most_each:
                return Shed(f"This client has {most_each} connections, the most it may have here.", retry_after_s=1.0)
        if len(self.edges) <= self.most:
            return None
        if len(self.edges) > self.most + _REFUSALS:
            edge.abort()
        return Shed("This gateway has all the connections it may have; try again.", retry_after_s=1.0)

    def closed(self, edge: Edge[R]) -> None:
        """Remove a connection."""
        edge.held.closed()
        if self._by_client and edge.peer and edge in self.edges:
            client = client_of(edge.peer)
            self._by_client[client] -= 1
            if not self._by_client[client]:
                del self._by_client[client]
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


def client_of(peer: str) -> str:
    """Who a connection from this address is counted for: the address, of IPv6 the /64, which one machine can have all
    of."""
    address = ipaddress.ip_address(peer.partition("%")[0])
    if isinstance(address, ipaddress.IPv6Address):
        mapped = address.ipv4_mapped
        return str(mapped or ipaddress.IPv6Network((address, 64), strict=False))
    return peer
