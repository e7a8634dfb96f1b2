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
from router.dataplane.http.request_parser import Admit
from router.dataplane.http.responses import CLOSE, Headers, error_answer
from router.dataplane.http.write_batcher import WriteBatcher
from router.errors import BadFraming, GatewayError, Shed
from router.ports.acceptor import DESCRIPTORS, Acceptor, PortOptions
from router.settings import Limits, Timeouts

_BACKLOG: Final = 4096
"""Connections that the kernel keeps until they are accepted."""

_REFUSALS: Final = 64
"""Connections above the limit that are answered before they are closed; others are closed at once."""


_PLAIN: Final = PortOptions()

_HANDSHAKE_S: Final = 60.0
"""Seconds for everything before HTTP where `timeouts.client_header_s` is off; after it where `client_write_s` is."""


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
        port: PortOptions = _PLAIN,
        admit: Admit | None = None,
    ) -> None:
        """`on_refused` is called for bytes that never became a request; it returns the headers of the answer.
        `keep_peers`: note each client's address, which the system forgets when a connection breaks. `port`: what
        clients speak below HTTP. `admit`: see `RequestParser`."""
        self.admit = admit
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
        self.sniff: Callable[[Edge[R]], asyncio.BaseProtocol] | None = None
        """Makes the protocol of a connection that may speak something else than HTTP/1.1; None where none may."""
        self._keep_peers = keep_peers
        self._server: asyncio.Server | None = None
        before_s, after_s = timeouts.client_header_s or _HANDSHAKE_S, timeouts.client_write_s or _HANDSHAKE_S
        self._acceptor = None if port.plain else Acceptor(port, self, before_s, after_s)
        """Accepts in the server's place where HTTP is not the first that is spoken."""
        self._arriving: dict[Edge[R], Shed | None] = {}
        """Connections that do not speak HTTP yet, counted already; and why each will be refused."""

    def connect(self) -> Edge[R]:
        """The protocol of a new connection, for asyncio."""
        return Edge(self.requests, self, self.deadlines.clock)

    def _protocol(self) -> asyncio.BaseProtocol:
        edge = self.connect()
        return cast(asyncio.BaseProtocol, edge) if self.sniff is None else self.sniff(edge)

    async def start(self, host: str, port: int, lent: socket.socket | None = None) -> int:
        """Listen; returns the port, which the kernel chooses if `port` is 0. Raises OSError when it is in use.

        `lent` is a socket, already bound, to listen on instead.
        """
        loop = asyncio.get_running_loop()
        if lent is None and (host == "::" or self._acceptor is not None):
            lent = bind(ListenAddress(host or "0.0.0.0", port))  # asyncio would take IPv6 only
        if self._acceptor is not None and lent is not None:
            self._acceptor.start(lent, self.backlog)
            return int(lent.getsockname()[1])
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        connect = cast(Callable[[], asyncio.Protocol], self.connect if self.sniff is None else self._protocol)
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
        self.deadlines.members.add(edge)
        refusal = None
        if edge in self._arriving:
            refusal = self._arriving.pop(edge)
        elif self._keep_peers or self.limits.max_connections_per_client:
            edge.peer = peer_of(edge.transport)
            refusal = self._count(edge.peer)
        if refusal is not None:
            return refusal
        if len(self.edges) <= self.most:
            return None
        if len(self.edges) > self.most + _REFUSALS:
            edge.abort()
        return Shed("This gateway has all the connections it may have; try again.", retry_after_s=1.0)

    def closed(self, edge: Edge[R]) -> None:
        """Remove a connection."""
        edge.held.closed()
        if edge in self.edges:
            self._uncount(edge.peer)
        self.edges.discard(edge)
        self.deadlines.members.discard(edge)

    def _count(self, peer: str) -> Shed | None:
        most_each = self.limits.max_connections_per_client
        if not most_each or not peer:
            return None
        client = client_of(peer)
        count = self._by_client[client] = self._by_client.get(client, 0) + 1
        if count <= most_each:
            return None
        return Shed(f"This client has {most_each} connections, the most it may have here.", retry_after_s=1.0)

    def _uncount(self, peer: str) -> None:
        if self._by_client and peer:
            client = client_of(peer)
            self._by_client[client] -= 1
            if not self._by_client[client]:
                del self._by_client[client]

    def room(self) -> bool:
        """See `Acceptance`."""
        arrivals = self._acceptor.arrivals if self._acceptor is not None else ()
        return len(self.edges) + DESCRIPTORS * len(arrivals) < self.most + _REFUSALS

    def counted_for(self, peer: str) -> str:
        """See `Acceptance`."""
        return client_of(peer)

    def crowded(self, client: str, silent: int) -> bool:
        """See `Acceptance`."""
        most_each = self.limits.max_connections_per_client
        return bool(most_each) and self._by_client.get(client, 0) + silent >= most_each + _REFUSALS

    def protocol(self, peer: str) -> asyncio.BaseProtocol | None:
        """See `Acceptance`. A client beyond its limit is answered, unless it has many connections too many."""
        edge = self.connect()
        edge.peer = peer
        self._arriving[edge] = self._count(peer)
        most_each = self.limits.max_connections_per_client
        if most_each and self._by_client[client_of(peer)] > most_each + _REFUSALS:
            self.given_up(edge)
            return None
        return cast(asyncio.BaseProtocol, edge) if self.sniff is None else self.sniff(edge)

    def given_up(self, protocol: object) -> None:
        """See `Acceptance`."""
        edge = cast("Edge[R]", getattr(protocol, "edge", protocol))
        if edge in self._arriving:
            del self._arriving[edge]
            self._uncount(edge.peer)

    def not_tls(self, peer: str) -> bytes:
        """See `Acceptance`."""
        error = BadFraming("This port speaks TLS: use https://.")
        error.client = peer
        return error_answer(error, self.refused(error), connection=CLOSE)

    def retire(self, last: RequestHandler[R]) -> None:
        """Have `last` begin the further requests of every connection that is open now, or in its handshake."""
        for edge in (*self.edges, *self._arriving):
            edge.requests = last

    def stop_accepting(self) -> None:
        """Accept no more; open connections stay."""
        if self._acceptor is not None:
            self._acceptor.close()
        if self._server is not None:
            self._server.close()
            self._server = None

    def new(self) -> list[object]:
        """Connections whose first request has not come, and is not refused. Each may stay so for `client_header_s`."""
        arrivals = self._acceptor.arrivals if self._acceptor is not None else ()
        return [*arrivals, *(edge for edge in self.edges if edge.idle and not edge.used and edge.reader is not None)]

    def stop(self, *, spare_new: bool = False) -> None:
        """Accept no more and close the idle connections; busy ones close after their answer.

        `spare_new`: connections without a first request stay open, as in `new`.
        """
        self.stopped = True
        self.stop_accepting()
        if self._acceptor is not None and not spare_new:
            self._acceptor.abort()
        for edge in [edge for edge in self.edges if edge.idle and (edge.used or not spare_new)]:
            edge.close()

    def abort(self) -> None:
        """Close every connection at once."""
        if self._acceptor is not None:
            self._acceptor.abort()
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
