"""The gateway's decisions for a host that carries the bytes itself: a request's head and body in, a pod out.

Reads, routes and places a request by the stages that the gateway uses, and gives everything back by the same
`Completion`. The host reports what it sees: the first token, a failed attempt, the end. Knows no connection.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from router.dataplane.completion import Completion
from router.dataplane.deps import GatewayDeps
from router.dataplane.exchange import Exchange, Placement
from router.dataplane.http.edge import Edge
from router.dataplane.http.request_head import RequestHead
from router.dataplane.routing import Routing
from router.errors import GatewayError, NoPodAvailable, Saturated
from schedulers.types import NO_UNTRIED_POD, Rejection
from statesync.engines.health import Outcome
from statesync.errors import NoRoutablePod, PoolSaturated

AGAIN_S: Final = 1.0
"""Seconds after which a host may ask again for a request that no pod can take now."""


class Decider:
    """Places requests on pods and counts them there."""

    def __init__(self, deps: GatewayDeps, connect: Callable[[], Edge[Exchange]]) -> None:
        """`connect` makes a client connection, for the one that all exchanges of this host name: it is never opened."""
        self._edge = connect()
        self._identity = deps.identity
        self._routing = Routing(deps)
        self._completion = Completion(deps)
        self._admission = deps.admission
        self._dispatch = deps.dispatch
        self._pools = deps.routes.pools
        self._view = deps.view
        self._clock = deps.clock
        self._outcome = deps.outcome
        self._unsettled = deps.unsettled

    def begin(self, head: RequestHead, body: bytes) -> Exchange:
        """The exchange of a request that has arrived: read, routed and admitted, not placed. Raises GatewayError."""
        exchange = Exchange(self._edge, head, body, self._clock())
        exchange.request_id = self._identity.request_id(exchange.header_map)
        try:
            self._routing.understand(exchange, looked=True)  # no lists of models are read for this host
            self._admission.admit(exchange)
        except GatewayError as error:
            self._completion.end(exchange, error.shape.status, error)
            raise
        return exchange

    def place(self, exchange: Exchange) -> Placement:
        """Choose a pod that was not tried and reserve room on it. Raises Saturated or NoPodAvailable; the exchange is
        open all the same, and may be placed later. Where each pod was tried, all may be tried then."""
        routed = exchange.routed
        try:
            placed = self._dispatch.place(exchange, self._pools[routed.pool])
        except PoolSaturated:
            message = f"Every pod of pool {routed.pool!r} is at its limit."
            raise Saturated(message, retry_after_s=AGAIN_S) from None
        except NoRoutablePod as error:
            raise NoPodAvailable(f"No pod can take this request now: {error}.", retry_after_s=AGAIN_S) from None
        if isinstance(placed, Rejection):
            if placed.reason == NO_UNTRIED_POD.reason:
                exchange.tried = frozenset()
            message = f"No pod of pool {routed.pool!r} can take this request now: {placed.reason}."
            raise NoPodAvailable(message, retry_after_s=placed.retry_after_s)
        exchange.attempts += 1
        routed.attempts += 1
        return placed

    def place_again(self, exchange: Exchange) -> Placement:
        """Another pod in place of the one that refused or failed the request. Raises as `place`."""
        before = exchange.placement
        if before is not None:
            exchange.tried |= {before.pod.id}
            exchange.placement = None
            self._view.release(before.charge)
        return self.place(exchange)

    def first_token(self, exchange: Exchange, *, stream: bool) -> None:
        """The answer began: prefill is over, and of a stream this is the first token."""
        placement, routed, now = exchange.placement, exchange.routed, self._clock()
        if placement is None or exchange.done:
            return
        self._view.prefill_done(placement.charge)
        if routed.arm is not None:
            routed.arm.first_byte(routed, now - exchange.arrived, token=stream)
        if stream:
            charge = placement.charge
            routed.metrics.ttft.observe(now - exchange.arrived)
            self._view.observe_ttft(charge.pod, now - charge.since, charge.expected_s)

    def end(self, exchange: Exchange, status: int) -> None:
        """The answer has ended, or will not come: give everything back, and report to its pod's health how it went."""
        placement = exchange.placement
        if placement is not None and not exchange.done:
            pod = placement.pod.id
            if status >= 500:
                self._outcome(pod, Outcome.FAILURE, self._clock())
            elif pod in self._unsettled:
                self._outcome(pod, Outcome.OK, self._clock())
        self._completion.end(exchange, status)
