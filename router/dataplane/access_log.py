"""The access log: one line a request, and one for bytes that never became a request. Only this file knows what a line
holds; nothing of it runs unless `logging.access` is on. It reads what the request left behind and parses no body.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Final

from router.dataplane.exchange import UNROUTED, AnswerRelay, Exchange
from router.dataplane.http.forwarded import TrustedProxies, peer_of
from router.errors import GatewayError, PodFailure
from router.telemetry.request_trace import NOT_TRACED

_log = logging.getLogger("turnout.access")

_LONGEST: Final = 256
"""Characters of a name that the client chooses."""


class AccessLog:
    """Writes the lines."""

    def __init__(self, clock: Callable[[], float], proxies: TrustedProxies) -> None:
        """`clock` is that of `Exchange.arrived`."""
        self._clock = clock
        self._proxies = proxies

    def request(
        self, exchange: Exchange, relay: AnswerRelay | None, status: int, error: GatewayError | None = None
    ) -> None:
        """A request ended. `relay` is that of its last attempt, `error` what the client got in place of an answer."""
        routed, placement = exchange.routed, exchange.placement
        peer = exchange.edge.peer or peer_of(exchange.edge.transport)
        line: dict[str, object] = {
            **names(exchange),
            "client": self._proxies.client(peer, exchange.header_map) or "-",
            "model": exchange.model[:_LONGEST] or "-",
            "pool": routed.pool if routed is not UNROUTED else _asked_pool(exchange),
            "pod": placement.pod.id if placement is not None else "-",
            "policy": placement.policy if placement is not None else "-",
            "status": status,
        }
        if exchange.tenant is not None:
            line |= {"tenant": exchange.tenant.name, "key": exchange.key}
        if error is not None:
            line |= _reason(error)
        line |= {"stream": routed.stream, "attempts": exchange.attempts}
        if relay is not None:
            line |= exchange.usage(relay).named()
            if relay.sse and relay.first_at:
                line["ttft_s"] = round(relay.first_at - exchange.arrived, 6)
        line["duration_s"] = round(self._clock() - exchange.arrived, 6)
        _log.info("%s %s", exchange.method.decode(), exchange.path.decode("latin-1"), extra=line)

    def refusal(self, error: GatewayError, request_id: str) -> None:
        """A connection was refused before it had sent a whole request."""
        line = {"request_id": request_id, "client": error.client or "-", "pool": "-", "pod": "-", "policy": "-"}
        _log.info("not read: %s", error.message, extra={**line, "status": error.shape.status, **_reason(error)})


def names(exchange: Exchange) -> dict[str, str]:
    """The fields by which every log line names a request, and the trace that it belongs to."""
    request_id = exchange.request_id.decode("latin-1")
    trace = exchange.trace
    if trace is None or trace is NOT_TRACED:
        return {"request_id": request_id}
    return {"request_id": request_id, "trace_id": trace.name}


def _asked_pool(exchange: Exchange) -> str:
    """The pool that a request named which has none: it names one that is unknown or not for this client."""
    return exchange.header_map.get(b"x-turnout-pool", b"-").decode("latin-1")[:_LONGEST]


def _reason(error: GatewayError) -> dict[str, object]:
    """Why there was no answer, by the name that metrics and clients get; for a failure of a pod the kind, too."""
    reason: dict[str, object] = {"reason": error.shape.code}
    return {**reason, "cause": error.reason} if isinstance(error, PodFailure) else reason
