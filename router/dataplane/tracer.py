"""Traces of requests: decides which are recorded, hands the trace on to pods, and collects attempts and the end. An
observer: nothing that it does changes where a request goes. Knows no span; `telemetry/tracing.py` makes them once the
request has ended.

Where the client's `traceparent` says so, or the ratio takes a new trace, the pod gets the id of its attempt's span as
parent. Otherwise it gets the client's header as it came, or a new one that is not sampled, so that client, gateway and
engine always take the same decision. `baggage` is passed on like any other header.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Final

from router.dataplane.exchange import UNROUTED, AnswerRelay, Exchange, Placement
from router.dataplane.http.response_parser import ResponseHead
from router.dataplane.http.upstream_connection import Receiver, UpstreamConnection
from router.dataplane.prefix_feedback import cache_use
from router.dataplane.relay import Relay
from router.dataplane.request.paths import STATELESS_PATHS
from router.dataplane.usage import usage_of
from router.errors import GatewayError, PodFailure, PodGone
from router.telemetry.request_trace import NOT_TRACED, AttemptTrace, PendingOutcome, RequestOutcome, RequestTrace
from router.telemetry.trace_context import SAMPLED, gap, header, parse, sampling_bound, without_context
from schedulers.types import PREFIX_BLOCK_TOKENS
from statesync.errors import StateError
from statesync.load.view import LoadView

_log = logging.getLogger("turnout.traces")

Sink = Callable[[RequestTrace, PendingOutcome], None]
"""Takes the trace of a sampled request that has ended."""

_LONGEST: Final = 256
"""Characters of what the client chooses: path, model."""
_LONGEST_STATE: Final = 512
"""Bytes of a `tracestate` that spans keep, as W3C asks at least; a longer one is only passed on."""
_OK: Final = 200
_CLIENT_LEFT: Final = 499
_FAILED: Final = 500


class Tracer:
    """Collects what spans are made of."""

    def __init__(
        self,
        sink: Sink,
        ratio: float,
        clock: Callable[[], float],
        wall: Callable[[], float],
        rng: Callable[[], int],
        view: LoadView,
        tap: Callable[[Exchange, Relay], Receiver] | None = None,
    ) -> None:
        """`ratio` of the traces that begin here are recorded. `clock` is that of `Exchange.arrived`, `wall` is Unix
        time, `rng` returns 64 random bits. `tap` is that of another observer."""
        self._sink = sink
        self._bound = sampling_bound(ratio)
        self._skips = gap(self._bound, rng())
        """How many more traces begin here before one is recorded."""
        self._clock = clock
        self._wall = wall
        self._rng = rng
        self._view = view
        self._tap = tap
        self._count = 0
        span_id = self._id()
        self._before, self._after = b"", [b"%02x-%016x-00\r\n" % (digits, span_id) for digits in range(256)]
        """The line of requests that are not recorded and came without one: without the last digits of their number, and
        what follows by these digits."""
        self._first = b"traceparent: 00-%016x" % self._id()

    def _begin(self, exchange: Exchange) -> RequestTrace:
        """Decide whether the request is recorded, and what pods get of its trace."""
        header_map = exchange.header_map
        if b"traceparent" in header_map or b"tracestate" in header_map:
            return self._continue(exchange, header_map.get(b"traceparent", b""), header_map.get(b"tracestate", b""))
        if self._skips:
            self._skips -= 1
            kept = exchange.kept = list(exchange.kept)
            kept.append(self._unsampled())
            exchange.trace = NOT_TRACED
            return NOT_TRACED
        self._skips = gap(self._bound, self._rng())
        low = self._rng() * self._bound >> 64
        return self._record(exchange, RequestTrace(self._id() << 64 | low, 0, SAMPLED), exchange.kept)

    def _unsampled(self) -> bytes:
        """A line of its own for a request that is not recorded, put together from parts that are made."""
        self._count += 1
        digits = self._count & 0xFF
        if not digits or not self._before:
            self._before = self._first + b"%014x" % (self._count >> 8)
        return self._before + self._after[digits]

    def _continue(self, exchange: Exchange, given: bytes, state: bytes) -> RequestTrace:
        """The same for a client that sent headers of a trace."""
        parent = parse(given)
        if parent is None:
            kept, low = without_context(exchange.kept, state=False), self._rng()
            trace = RequestTrace(self._id() << 64 | low, 0, SAMPLED if low < self._bound else 0)
            exchange.kept = [*kept, header(trace.trace_id, self._id(), 0)]
        else:
            trace = RequestTrace(*parent)
            trace.state = state if len(state) <= _LONGEST_STATE else b""
            kept = without_context(exchange.kept, state=True) if trace.sampled else []
        if trace.sampled:
            return self._record(exchange, trace, kept)
        exchange.trace = trace
        return trace

    def _record(self, exchange: Exchange, trace: RequestTrace, kept: Sequence[bytes]) -> RequestTrace:
        trace.span_id = self._id()
        trace.kept = kept
        exchange.trace = trace
        return trace

    def _id(self) -> int:
        return self._rng() or 1

    def tap(self, exchange: Exchange, relay: Relay) -> Receiver:
        """An attempt begins: give the pod its trace. Returns what takes the pod's answer in front of the relay."""
        receiver: Receiver = relay if self._tap is None else self._tap(exchange, relay)
        trace = exchange.trace or self._begin(exchange)
        if not trace.sampled:
            return receiver
        now, placement = self._clock(), relay.placement
        for before in trace.attempts:
            before.end(now, PodGone.reason if not before.status else "")
        attempt = self._attempt(exchange, placement, now)
        trace.attempts.append(attempt)
        exchange.kept = [*trace.kept, header(trace.trace_id, attempt.span_id, trace.flags)]
        return AttemptReceiver(attempt, receiver, self._clock)

    def _attempt(self, exchange: Exchange, placement: Placement, now: float) -> AttemptTrace:
        pod, info, charge, routed = placement.pod, placement.info, placement.charge, exchange.routed
        attempt = AttemptTrace(self._id(), now, pod.id, pod.address, routed.pool, _named(routed.call.model))
        attempt.policy, attempt.decided_at, attempt.expected_s = placement.policy, charge.since, charge.expected_s
        attempt.hit_tokens = min(info.prompt_tokens, info.prefix_hits.get(pod.id, 0) * PREFIX_BLOCK_TOKENS)
        view, pool, model = self._view, routed.pool, routed.call.model
        with suppress(StateError):  # the room that was left is this request's now
            mixed = pool in view.mixed
            attempt.candidates = len(view.snapshot(pool, model).candidates) if mixed else view.pickable(pool)
        return attempt

    def ended(self, exchange: Exchange, relay: AnswerRelay | None, status: int, error: GatewayError | None) -> None:
        """The request ended. `relay` is that of its last attempt, `error` what the client got in place of an answer."""
        trace = exchange.trace or self._begin(exchange)
        if not trace.sampled:
            return
        try:
            now, reason = self._clock(), _reason(status, error)
            for attempt in trace.attempts:
                if not attempt.ended_at:
                    attempt.end(now, error.reason if isinstance(error, PodFailure) else reason)
            trace.kept = ()  # headers, keys among them, do not wait for the collector
            self._sink(trace, EndedExchange(exchange, relay, status, reason, now, self._wall()))
        except Exception:  # noqa: BLE001  a defect here must not keep a request from its end
            _log.exception("the trace of a request was lost", extra={"trace_id": trace.name})


class EndedExchange:
    """What the outcome of a recorded request is made of, without its body, its headers and its connection. Code that
    runs once in a hundred requests is in no cache and takes four times as long: here is only what cannot wait."""

    __slots__ = ("_asked", "_ended", "_metrics", "_tail", "_times", "_trace", "first_at", "waited")

    def __init__(
        self, exchange: Exchange, relay: AnswerRelay | None, status: int, reason: str, now: float, wall: float
    ) -> None:
        """`now` and `wall`: when it ended."""
        routed = exchange.routed
        self._trace = exchange.trace
        self._asked = exchange.method, exchange.path[:_LONGEST], exchange.model[:_LONGEST]
        self._ended = (
            "" if routed is UNROUTED else routed.pool,
            exchange.tenant.name if exchange.tenant is not None else "",
            status,
            reason,
            relay is not None and relay.sse,
        )
        self._metrics = None if routed is UNROUTED or exchange.upgrade else routed.metrics
        self._tail = relay.tail if relay is not None else b""
        self.waited = exchange.wait_until > 0.0
        self.first_at = first_at = relay.first_at if relay is not None else 0.0
        last_at = relay.last_at if isinstance(relay, Relay) else now if first_at else 0.0
        self._times = exchange.arrived, now, last_at, wall

    def read(self) -> RequestOutcome:
        """Work it out, and name the trace as an example in the histograms that the request was counted in."""
        method, path, model = self._asked
        arrived, now, last_at, wall = self._times
        outcome = RequestOutcome(
            method.decode("latin-1"),
            path.decode("latin-1"),
            path in STATELESS_PATHS,  # which are all short
            _named(model),
            *self._ended,
            arrived,
            now,
            self.waited,
            self.first_at,
            last_at,
            _tokens(self._tail),
        )
        if self._metrics is not None and self._trace is not None:
            self._metrics.e2e.mark(now - arrived, self._trace.name, wall)
            if outcome.stream and self.first_at and outcome.status == _OK:
                self._metrics.ttft.mark(self.first_at - arrived, self._trace.name, wall)
        return outcome


def _named(model: str) -> str:
    """A client's word for a model as a span may hold it: one that is no Unicode would cost all spans of its batch."""
    return model[:_LONGEST].encode(errors="replace").decode()


def _reason(status: int, error: GatewayError | None) -> str:
    """The name of the failure in metrics, or the status of a pod's answer that is one."""
    if error is not None:
        return error.shape.code
    if status == _CLIENT_LEFT:
        return "client_left"
    return str(status) if status >= _FAILED else ""


def _tokens(tail: bytes) -> Mapping[str, int]:
    found, use = usage_of(tail).named(), cache_use(tail)
    return found if use is None else {**found, "cached_tokens": use.cached_tokens}


class AttemptReceiver:
    """A `Receiver` in front of another one that notes how an attempt ends."""

    __slots__ = ("_attempt", "_clock", "_next")

    def __init__(self, attempt: AttemptTrace, receiver: Receiver, clock: Callable[[], float]) -> None:
        self._attempt = attempt
        self._next = receiver
        self._clock = clock

    def connected(self, connection: UpstreamConnection, /) -> None:
        """Pass it on."""
        self._next.connected(connection)

    def head(self, head: ResponseHead, framing: int, length: int, /) -> bool:
        """Note the status, then pass the head on."""
        self._attempt.status = head.status
        return self._next.head(head, framing, length)

    def data(self, piece: bytes, safe: int, now: float, /) -> None:
        """Pass it on."""
        self._next.data(piece, safe, now)

    def end(self) -> None:
        """Note the end, then pass it on."""
        self._attempt.end(self._clock())
        self._next.end()

    def failed(self, failure: PodFailure, /) -> None:
        """Note the failure, then pass it on: it may start another attempt."""
        self._attempt.end(self._clock(), failure.reason)
        self._next.failed(failure)
