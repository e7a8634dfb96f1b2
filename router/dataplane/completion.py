"""The ways a request can end, and what is given back at each: the charge, the place in the gate, the connection.

Every exchange passes `end` exactly once, whichever stage ended it, and only `end` gives these back.
"""

from __future__ import annotations

import logging

from router.dataplane.access_log import AccessLog, names
from router.dataplane.deps import GatewayDeps
from router.dataplane.exchange import UNROUTED, AnswerRelay, Exchange, RoutedRequest
from router.dataplane.failover.reasons import NO_POD, NotMoved
from router.dataplane.http.forwarded import TrustedProxies
from router.dataplane.http.responses import Headers, dialect_of, error_answer
from router.dataplane.usage import UNKNOWN
from router.errors import (
    CutMidAnswer,
    GatewayError,
    InternalError,
    InvalidApiKey,
    Overload,
    PermissionDenied,
    PodFailure,
    TotalTimeout,
)
from router.telemetry.metrics import KEPT, UNSERVED
from schedulers.types import Slo

OK, TOO_MANY, FAILED = 200, 429, 500

CLIENT_LEFT = 499
"""The status in metrics and logs when the client closed its connection first; nginx uses the same number."""

_log = logging.getLogger("turnout.gateway")


class Completion:
    """Ends exchanges."""

    def __init__(self, deps: GatewayDeps) -> None:
        self._clock = deps.clock
        self._view = deps.view
        self._admission = deps.admission
        self._identity = deps.identity
        self._metrics = deps.metrics
        self._shares = deps.shares
        self._limits = deps.limits
        proxies = TrustedProxies(deps.settings.trusted_proxies)
        self._access_log = AccessLog(deps.clock, proxies) if deps.settings.logging.access else None
        logged = self._access_log.request if self._access_log is not None else None
        counted = self._count_tenant if deps.access is not None else None
        self._ended = tuple(each for each in (deps.ended, logged, counted) if each is not None) or None
        """Observe the end of every request."""

    def answer(self, exchange: Exchange, answer: bytes) -> None:
        """Send a local answer. Nothing was reserved for the exchange, so nothing is given back."""
        exchange.edge.write(answer)
        exchange.done = True
        exchange.edge.finish(exchange.keep_alive)

    def refuse(self, exchange: Exchange, error: GatewayError) -> None:
        """Answer with an error. The connection stays open unless the error leaves bytes unread (`shape.closes`)."""
        if exchange.done:
            return
        relay = exchange.relay
        if relay is not None and relay.begun:  # it waited for a pod that goes on with its answer
            self._metrics.count_move(exchange.routed.pool, NO_POD)
            self.break_off(exchange, relay, CutMidAnswer(error.message + NotMoved(NO_POD).words))
            return
        if error.shape.closes:
            exchange.keep_alive = False
        if exchange.fallback_state is not None:
            error.message += exchange.fallback_state.summary(exchange.routed.pool)
        if not isinstance(error, PodFailure):
            self._metrics.count_rejection(exchange.routed.pool, error.shape.code)
        headers = self._identity.error_headers(exchange)
        if self._limits is not None:
            headers += self._limits.headers(exchange)
        answer = error_answer(
            error,
            headers,
            connection=exchange.connection_line,
            head_only=exchange.method == b"HEAD",
            dialect=dialect_of(exchange.path),
        )
        exchange.edge.write(answer)
        self.end(exchange, error.shape.status, error)
        exchange.edge.finish(exchange.keep_alive)

    def refused(self, error: GatewayError) -> Headers:
        """Count a refusal of bytes that never became a request; returns the headers of the answer."""
        self._metrics.count_request("-", "-", "-", error.shape.status)
        if isinstance(error, (Overload, InvalidApiKey, PermissionDenied)):
            self._metrics.count_rejection("-", error.shape.code)
        headers = self._identity.refusal_headers(error.origin)
        if self._access_log is not None:
            self._access_log.refusal(error, dict(headers).get(b"x-request-id", b"").decode())
        return headers

    def give_up(self, exchange: Exchange, failure: PodFailure) -> None:
        """Close the pod's connection and answer with the error, or cut the answer that has begun."""
        relay = exchange.relay
        self._cancel(exchange)
        if relay is not None and relay.begun:
            self.break_off(exchange, relay, failure)
        else:
            self.refuse(exchange, failure)

    def break_off(self, exchange: Exchange, relay: AnswerRelay, failure: PodFailure) -> None:
        """Cut an answer that the client has part of."""
        _log.warning("answer cut short: %s", failure.message, extra=names(exchange))
        relay.break_off(failure)
        self.end(exchange, failure.shape.status, failure)

    def abandon(self, exchange: Exchange) -> None:
        """The client is gone: close the pod's connection, so that the pod stops generating."""
        self._cancel(exchange)
        self._metrics.client_disconnects += 1
        self.end(exchange, CLIENT_LEFT)

    def defect(self, exchange: Exchange) -> None:
        """Log the exception being handled, a defect of the gateway, and answer 500 or cut the answer that has begun."""
        _log.exception("a request met a defect of the gateway", extra=names(exchange))
        relay = exchange.relay
        self._cancel(exchange)
        if relay is not None and relay.begun:
            self.end(exchange, 500)
            exchange.edge.abort()
        else:
            message = (
                f"The gateway failed on this request; its log says why under {exchange.request_id.decode('latin-1')}."
            )
            self.refuse(exchange, InternalError(message))

    def end(self, exchange: Exchange, status: int, error: GatewayError | None = None) -> None:
        """Give back what the exchange holds and count it, once. `error`: what the client got in place of an answer."""
        if exchange.done:
            return
        exchange.done = True
        relay = exchange.relay
        exchange.relay = None  # it points back: a cycle that only the garbage collector would find
        routed, placement = exchange.routed, exchange.placement
        pod, policy = "-", "-"
        if placement is not None:
            pod, policy = placement.pod.id, placement.policy
            self._view.release(placement.charge)
        self._admission.leave(exchange)
        left = status == CLIENT_LEFT or _was_cut_short(exchange, error)
        if self._shares is not None:
            self._shares.ended(exchange, relay, left=left)
        if exchange.charge is not None and self._limits is not None:
            self._limits.settle(exchange, relay, exchange.charge, left=left)
        if routed.slo is not None:
            if not exchange.upgrade:
                self._count_slo(routed, routed.slo, status)
        if routed.arm is not None:
            tokens_sent = routed.meter.tokens() if routed.meter is not None else 0
            routed.arm.ends(routed, status, self._clock(), tokens_sent)
        if routed.meter is not None:
            routed.meter = None  # by its relay it points back, too
        if routed is not UNROUTED and not exchange.upgrade:  # how long a WebSocket is open is no latency
            routed.metrics.e2e.observe(self._clock() - exchange.arrived)
        self._metrics.count_request(routed.pool, policy, pod, status)
        if self._ended is not None:
            for observe in self._ended:
                observe(exchange, relay, status, error)

    def _count_tenant(
        self, exchange: Exchange, relay: AnswerRelay | None, status: int, error: GatewayError | None
    ) -> None:
        """Count the request as its tenant's."""
        if exchange.tenant is None:
            return
        tenants, name = self._metrics.tenants, exchange.tenant.name
        usage = UNKNOWN if relay is None else exchange.usage(relay)
        tenants.ended(name, status, usage.prompt, usage.answer)
        if error is not None and not isinstance(error, PodFailure):
            tenants.refused(name, error.shape.code)

    def _count_slo(self, routed: RoutedRequest, slo: Slo, status: int) -> None:
        """Count whether the promised times were kept. Requests that their client gave up or made wrong do not count."""
        result = UNSERVED if status >= FAILED or status == TOO_MANY else None
        if status == OK and routed.meter is not None:
            result = routed.meter.result(slo)
        if result is not None:
            self._metrics.count_slo(routed.pool, result)
            if routed.arm is not None:
                routed.arm.promised(kept=result == KEPT)

    def _cancel(self, exchange: Exchange) -> None:
        if exchange.relay is not None:
            exchange.relay.cancel()


def _was_cut_short(exchange: Exchange, error: GatewayError | None) -> bool:
    """Whether the client's own deadline ended the request: the same as if it had left."""
    return error is not None and isinstance(error, TotalTimeout) and b"x-turnout-deadline-ms" in exchange.header_map
