"""The stages of a request, a line each. Read `handle`, then routing, services, stateful, admission, queue, dispatch,
attempt, relay, retry, handback, fallback and completion.

Everything here is synchronous: a request is carried from event to event by its `Exchange`, with no task of its own.
"""

from __future__ import annotations

from router.dataplane import upgrade
from router.dataplane.attempt import Attempts
from router.dataplane.completion import Completion
from router.dataplane.deps import GatewayDeps
from router.dataplane.exchange import NO_POD, Exchange
from router.dataplane.handback import HandBack
from router.dataplane.http.edge import Edge
from router.dataplane.http.request_head import RequestHead
from router.dataplane.model_misses import ModelMisses
from router.dataplane.queue import RequestQueue
from router.dataplane.request.paths import STATELESS_PATHS
from router.dataplane.routing import Routing
from router.dataplane.services import ServiceRequests
from router.dataplane.stateful import StatefulRequests
from router.errors import DrainTimeout, GatewayError, ModelNotListed, NoPodAvailable, TotalTimeout
from router.settings import HTTP


class Gateway:
    """Walks exchanges through the stages: the `RequestHandler` of every client connection."""

    def __init__(self, deps: GatewayDeps) -> None:
        self.deps = deps
        self._identity = deps.identity
        self._lifecycle = deps.lifecycle
        self._local = deps.local
        self._access = deps.access
        self._limits = deps.limits
        self._admission = deps.admission
        self.completion = Completion(deps)
        self._routing = Routing(deps)
        self._attempts = Attempts(deps, self._routing, self.completion)
        if deps.pairs is not None:
            self._attempts.pairs = deps.pairs(deps, self._attempts, self.completion)
        if any(pool.failover.mid_stream for pool in deps.settings.pools):
            from router.dataplane.stream_mover import StreamMover

            mover = self._attempts.mover = StreamMover(deps, self._attempts)
            self._routing.movable = mover.prepare
        self._queue = RequestQueue(deps, self._attempts, self.completion)
        self._stateful = StatefulRequests(
            deps, self._routing, self._attempts, self.completion, self._go_on, self._place_or_queue
        )
        services = [pool for pool in deps.settings.pools if pool.kind == HTTP]
        self._services = (
            ServiceRequests(deps, services, self._routing, self._attempts, self._place_or_queue) if services else None
        )
        self._misses = ModelMisses(deps, self._routing, self._attempts, self._queue, self.completion, self._looked)
        self._attempts.hold = self._misses.hold
        self._streams = None if deps.streams is None else deps.streams(self, self.completion, self._place_or_queue)
        deps.view.on_headroom = self._queue.on_headroom
        self.pods_gone = HandBack(deps, self._attempts, self._queue, self.completion).pods_gone
        """Takes the pods that are gone by their probes: their requests without a byte of an answer move on."""

    def begin(self, edge: Edge[Exchange], head: RequestHead, body: bytes, arrived: float) -> Exchange:
        """The exchange of a request that the connection has read; `arrived` is on the connection's clock."""
        return Exchange(edge, head, body, arrived)

    def admit(self, head: RequestHead) -> None:
        """Refuse a request whose body is still to come, if its client is not let in. Raises GatewayError. Where
        certificates count, TLS has let the client in."""
        if self._access is not None and self._access.certificates is None:
            self._access.identify(head.header_map)

    def handle(self, exchange: Exchange) -> None:
        """Take the exchange through the stages; the answers before it on its connection are out. Never raises: every
        error becomes an answer."""
        exchange.request_id = self._identity.request_id(exchange.header_map)
        if exchange.keep_alive and self._lifecycle.closing:
            exchange.keep_alive = False
        try:
            if self._access is not None and not self._local.is_open(exchange):
                exchange.tenant, exchange.key = self._access.identify(exchange.header_map, exchange.edge.transport)
            if exchange.method != b"POST" or exchange.path not in STATELESS_PATHS:
                if self._services is not None and self._services.take(exchange):
                    return
                if self._local.takes_upgrade(exchange):
                    upgrade.begin(exchange)
                elif self._stateful.take(exchange):
                    return
                elif (answer := self._local.answer(exchange)) is not None:
                    self.completion.answer(exchange, answer)
                    return
            self._routing.understand(exchange)
            self._admission.admit(exchange)
            self._attempts.budget.requests += 1
            self._place_or_queue(exchange)
        except GatewayError as error:
            self._refuse(exchange, error)
        except Exception:  # noqa: BLE001  a defect ends in an answer, never in a client that waits forever
            self.completion.defect(exchange)

    def _refuse(self, exchange: Exchange, error: GatewayError) -> None:
        """Answer with the error, unless a look at the pods' lists may help."""
        try:
            if isinstance(error, ModelNotListed):
                self._misses.look_for(exchange)
                return
        except GatewayError as refusal:
            error = refusal
        self.completion.refuse(exchange, error)

    def _looked(self, exchange: Exchange) -> None:
        """The rest of `handle`, for an admitted exchange whose model was looked for."""
        try:
            self._routing.understand(exchange, looked=True)
            self._attempts.budget.requests += 1
            self._place_or_queue(exchange)
        except GatewayError as error:
            self.completion.refuse(exchange, error)
        except Exception:  # noqa: BLE001  a defect ends in an answer, never in a client that waits forever
            self.completion.defect(exchange)

    def _go_on(self, exchange: Exchange) -> None:
        """The rest of `handle`, for an admitted exchange that was looked up and names no state after all."""
        answer = self._local.answer(exchange)
        if answer is not None:
            self.completion.answer(exchange, answer)
            self._admission.leave(exchange)
            return
        try:
            self._routing.understand(exchange)
        except ModelNotListed:
            self._misses.look_for(exchange)
        else:
            self._attempts.budget.requests += 1
            self._place_or_queue(exchange)

    def _place_or_queue(self, exchange: Exchange) -> None:
        """Place the exchange on a pod of its pool or of a fall-back, or queue it. Raises GatewayError when no pod can
        take it, and RateLimitExceeded."""
        if self._streams is not None and self._streams.take(exchange):
            return
        if self._limits is not None:
            self._limits.admit(exchange)
        if exchange.tenant is not None and self._queue.line_up(exchange):
            return
        try:
            placed = self._attempts.place(exchange)
        except NoPodAvailable:
            if not self._attempts.fallbacks.take(exchange, NO_POD) and not self._queue.hold(exchange):
                raise
        else:
            if not placed:
                self._queue.enter(exchange)

    def abandon(self, exchange: Exchange) -> None:
        """The client is gone: the pod's connection is closed at once, unless the client had all that it waits for."""
        if exchange.relay is None or not exchange.relay.conclude():
            self.completion.abandon(exchange)

    def overdue(self, exchange: Exchange, now: float) -> None:
        """The exchange's deadline passed, at a pod or in the queue."""
        if exchange.queued:
            self._queue.overdue(exchange, now)
        else:
            self.completion.give_up(exchange, TotalTimeout("The answer did not end within the time this request has."))

    def cut_off(self) -> None:
        """End every request with an error, because the drain ran out of time."""
        for exchange in list(self._admission.active):
            if self._streams is not None and self._streams.hand_over(exchange):
                self.completion.end(exchange, 200)
                continue
            failure = DrainTimeout("This gateway is going away and its drain time is over; try again.")
            self.completion.give_up(exchange, failure)
