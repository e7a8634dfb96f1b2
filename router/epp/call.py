"""One request of the picker inside the gateway: what its stream asks of it beside the connection. Knows the data plane,
no message of Envoy's.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from router.dataplane.exchange import Exchange
from router.dataplane.gateway import Gateway
from router.dataplane.http.edge import Edge
from router.dataplane.http.listener import Listener
from router.dataplane.http.request_head import RequestHead
from router.dataplane.http.responses import CLOSE, error_answer
from router.dataplane.relay import Relay
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


class PickerCall:
    """One request: the `RequestHandler` of its connection, which hands everything on to the gateway."""

    def __init__(self, parts: PickerParts, subset: frozenset[str] | None) -> None:
        """`subset`: the endpoints that the pick is limited to; None for any."""
        self._parts = parts
        self._gateway = parts.gateway
        self._subset = subset
        self._exchange: Exchange | None = None

    def connect(self, take: Callable[[bytes], None], peer: str) -> EndWire:
        """A connection to the gateway; `take` gets what it answers."""
        edge = Edge(self, self._parts.listener, self._parts.clock)
        if edge.reader is not None:
            edge.reader.expect_new()  # it has the number of its stream
        return EndWire(edge, take, peer)  # type: ignore[arg-type]  # a protocol by its methods

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
