"""One request of the picker inside the gateway: what its stream asks of it beside the connection. Knows the data plane,
no message of Envoy's.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from router.dataplane.exchange import Exchange
from router.dataplane.gateway import Gateway
from router.dataplane.http.buffer_budget import UNCOUNTED
from router.dataplane.http.edge import Edge
from router.dataplane.http.header_rules import CHUNKED_LENGTH
from router.dataplane.http.listener import Listener
from router.dataplane.http.request_head import RequestHead, bad_start
from router.dataplane.http.request_parser import BODY, RequestParser
from router.dataplane.http.responses import CLOSE, error_answer
from router.dataplane.relay import Relay
from router.epp.heads import ProxyRequest
from router.epp.messages import endpoint
from router.epp.wires import EndWire
from router.errors import GatewayError
from statesync.discovery.ranks import rank_of
from statesync.load.view import LoadView


class PickerParts(NamedTuple):
    """The gateway of a picker, and what its requests need beside it."""

    gateway: Gateway
    listener: Listener[Exchange]
    """Keeps the open connections; it listens on no socket."""
    view: LoadView
    clock: Callable[[], float]
    spare: int
    """Endpoints that are named after the first, for the proxy's retries."""


class _Reader(RequestParser):
    """Reads one request from messages: a head that is parsed, as a rule, and a body without framing. What comes next
    is noted in `request` and `last` before each `feed`."""

    def __init__(self, edge: Edge[Exchange], parts: PickerParts) -> None:
        super().__init__(edge, parts.listener.limits, edge.held, parts.listener.admit)
        self.expect_new()  # the head has the number of its stream
        self._longest = min(self._limits.max_header_bytes, UNCOUNTED)
        self.request: ProxyRequest | None = None
        """The head that comes next; None: a piece of the body does."""
        self.last = False
        """Nothing follows that."""

    def feed(self, data: bytes) -> None:
        """Read the noted head, or else these bytes of the body. Raises GatewayError."""
        request, self.request = self.request, None
        if request is None:
            self._take_body(data)
        elif request.parsed is None or request.size > self._longest or request.headers > self._limits.max_headers:
            super().feed(request.head)
        elif self.last:
            self._owner.received(request.parsed, b"")
        else:
            self._head_bytes = request.size
            self._expect_body(request.parsed, CHUNKED_LENGTH, b"")

    def _take_body(self, piece: bytes) -> None:
        if self.stage != BODY and (piece or self.last):
            raise bad_start()  # more than the request
        if piece:
            self._keep(piece)
            if self._body_bytes > self._limits.max_body_bytes:
                raise self._too_much_body(self._head)
        if self.last:
            self._complete()
        elif piece:
            self._owner.body_grew(self._body_bytes)


class PickerCall:
    """One request: the `RequestHandler` of its connection, which hands everything on to the gateway."""

    def __init__(self, parts: PickerParts, subset: frozenset[str] | None) -> None:
        """`subset`: the endpoints that the pick is limited to; None for any."""
        self._parts = parts
        self._gateway = parts.gateway
        self._subset = subset
        self._exchange: Exchange | None = None
        self._reader: _Reader | None = None
        self._wire: EndWire | None = None

    def connect(self, take: Callable[[bytes], None], peer: str) -> None:
        """Connect to the gateway; `take` gets what it answers."""
        edge = Edge(self, self._parts.listener, self._parts.clock, reads=False)
        edge.reader = self._reader = _Reader(edge, self._parts)
        self._wire = EndWire(edge, take, peer)  # type: ignore[arg-type]  # a protocol by its methods

    def deliver(self, request: ProxyRequest | None, piece: bytes, *, end: bool) -> None:
        """Give the gateway the head of a request, or a piece of the body; `end`: nothing follows."""
        if (reader := self._reader) is not None and (wire := self._wire) is not None:
            reader.request, reader.last = request, end
            wire.deliver(piece)

    def close(self) -> None:
        """The stream is over: the client hangs up."""
        if self._wire is not None:
            self._wire.hang_up()
        self._exchange = self._reader = self._wire = None

    # As a RequestHandler

    def begin(self, edge: Edge[Exchange], head: RequestHead, body: bytes, arrived: float, /) -> Exchange:
        """See `Gateway`. Pods outside the subset count as tried: no policy picks them."""
        exchange = self._exchange = self._gateway.begin(edge, head, body, arrived)
        if (subset := self._subset) is not None:
            pods = [status.pod for status in self._parts.view.statuses()]
            exchange.tried = frozenset(pod.id for pod in pods if endpoint(pod.address) not in subset)
        return exchange

    def handle(self, request: Exchange, /) -> None:
        """See `Gateway`."""
        self._gateway.handle(request)

    def abandon(self, request: Exchange, /) -> None:
        """See `Gateway`."""
        self._gateway.abandon(request)

    def overdue(self, request: Exchange, now: float, /) -> None:
        """See `Gateway`."""
        self._gateway.overdue(request, now)

    # For the stream

    def alternatives(self) -> list[str]:
        """Endpoints for the proxy's retries, the best first."""
        if not self._parts.spare or self._exchange is None:
            return []
        pods = self._gateway.deps.dispatch.alternatives(self._exchange, self._parts.spare)
        return [endpoint(pod.address) for pod in pods]

    def served(self, by: str) -> None:
        """The answer comes from this endpoint: the load is counted there."""
        exchange = self._exchange
        relay = exchange.relay if exchange is not None and not exchange.done else None
        if exchange is None or not isinstance(relay, Relay) or endpoint(relay.placement.pod.address) == by:
            return
        rank = rank_of(relay.placement.pod)  # the header names it, whichever endpoint the proxy chooses
        for status in self._parts.view.statuses(exchange.routed.pool):
            if endpoint(status.pod.address) == by and rank_of(status.pod) == rank:
                relay.placement = self._gateway.deps.dispatch.move(exchange, relay.placement, status.pod.id)
                return

    def response_lines(self) -> bytes:
        """The gateway's own headers for the answer."""
        exchange, deps = self._exchange, self._gateway.deps
        if exchange is None or exchange.placement is None:
            return b""
        own = b"".join(deps.identity.response_headers(exchange, exchange.placement))
        return own + deps.limits.lines(exchange) if deps.limits is not None else own

    def refusal(self, error: GatewayError) -> bytes:
        """The answer to what never became a request, which is counted as such."""
        return error_answer(error, self._parts.listener.refused(error), connection=CLOSE)
