"""The ways a request can end, and what is given back at each: the charge, the place in the gate, the connection.

Every exchange passes `end` exactly once, whoever ended it; so nothing can leak as long as this file is right.
"""

from __future__ import annotations

import logging

from router.dataplane.deps import GatewayDeps
from router.dataplane.exchange import Exchange
from router.dataplane.http.responses import Headers, error_answer
from router.dataplane.relay import Relay
from router.errors import GatewayError, InternalError, PodFailure

CLIENT_LEFT = 499
"""The status under which a client that went away is counted (nginx's)."""

_log = logging.getLogger("turnout.gateway")
_access = logging.getLogger("turnout.access")


class Completion:
    """Ends exchanges."""

    def __init__(self, parts: GatewayDeps) -> None:
        self._parts = parts
        self._log_access = parts.settings.logging.access

    def answer(self, exchange: Exchange, answer: bytes) -> None:
        """Give a local answer; nothing was reserved for it."""
        exchange.edge.write(answer)
        exchange.done = True
        exchange.edge.finish(exchange.keep_alive)

    def refuse(self, exchange: Exchange, error: GatewayError) -> None:
        """Answer with an error; the connection lives on unless its bytes are in doubt."""
        if exchange.done:
            return
        if error.shape.closes:
            exchange.keep_alive = False
        if exchange.fallback_state is not None:
            error.message += exchange.fallback_state.told(exchange.pool)
        if not isinstance(error, PodFailure):
            self._parts.metrics.count_rejection(exchange.pool, error.shape.code or error.shape.type)
        answer = error_answer(
            error,
            self._parts.identity.error_headers(exchange),
            close=not exchange.keep_alive,
            head_only=exchange.method == b"HEAD",
            anthropic=exchange.speaks_anthropic,
        )
        exchange.edge.write(answer)
        self.end(exchange, error.shape.status)
        exchange.edge.finish(exchange.keep_alive)

    def refused(self, error: GatewayError) -> Headers:
        """The edge refuses bytes that never became a request: count it, and name the answer."""
        self._parts.metrics.count_request("-", "-", "-", error.shape.status)
        return self._parts.identity.refusal_headers()

    def give_up(self, exchange: Exchange, failure: PodFailure) -> None:
        """Stop waiting for the pod and tell the client as much as can still be told."""
        relay = exchange.relay
        self._cancel(exchange)
        if relay is not None and relay.begun:
            self.break_off(exchange, relay, failure)
        else:
            self.refuse(exchange, failure)

    def break_off(self, exchange: Exchange, relay: Relay, failure: PodFailure) -> None:
        """End an answer that the client has part of."""
        _log.warning("answer cut short: %s", failure.message, extra={"request_id": _name(exchange)})
        relay.break_off(failure)
        self.end(exchange, failure.shape.status)

    def abandon(self, exchange: Exchange) -> None:
        """The client is gone: the pod is told by closing its connection."""
        self._cancel(exchange)
        self._parts.metrics.client_disconnects += 1
        self.end(exchange, CLIENT_LEFT)

    def defect(self, exchange: Exchange) -> None:
        """An exception of ours, now being handled: it goes to the log, and the client gets an answer all the same."""
        _log.exception("a request met a defect of the gateway", extra={"request_id": _name(exchange)})
        relay = exchange.relay
        self._cancel(exchange)
        if relay is not None and relay.begun:
            self.end(exchange, 500)
            exchange.edge.abort()
        else:
            message = f"The gateway failed on this request; its log says why under {_name(exchange)}."
            self.refuse(exchange, InternalError(message))

    def end(self, exchange: Exchange, status: int) -> None:
        """Give back what the exchange holds and count it, once."""
        if exchange.done:
            return
        exchange.done = True
        exchange.relay = None  # it points back: a cycle that only the garbage collector would find
        parts = self._parts
        if exchange.charge is not None:
            parts.view.release(exchange.charge)
        parts.admission.leave(exchange)
        if exchange.arm is not None:
            exchange.arm.ends(exchange, status, parts.clock())
        if exchange.metrics is not None:
            exchange.metrics.e2e.observe(parts.clock() - exchange.arrived)
        pod = exchange.pod.id if exchange.pod is not None else "-"
        parts.metrics.count_request(exchange.pool, exchange.policy, pod, status)
        if self._log_access:
            self._log_line(exchange, status, pod)

    def _cancel(self, exchange: Exchange) -> None:
        if exchange.relay is not None:
            exchange.relay.cancel()

    def _log_line(self, exchange: Exchange, status: int, pod: str) -> None:
        extra = {
            "request_id": _name(exchange),
            "pool": exchange.pool,
            "pod": pod,
            "policy": exchange.policy,
            "status": status,
            "attempts": exchange.attempts,
            "duration_s": round(self._parts.clock() - exchange.arrived, 6),
        }
        _access.info("%s %s", exchange.method.decode(), exchange.path.decode("latin-1"), extra=extra)


def _name(exchange: Exchange) -> str:
    return exchange.request_id.decode("latin-1")
