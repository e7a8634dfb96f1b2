"""The life of a request, a line a stage. Read `handle`, then `_attempt`, then what the relay reports back.

Everything here is synchronous: a request is carried from event to event by its `Exchange`, with no task of its own.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import NamedTuple

from router.dataplane import openai
from router.dataplane.admission import Admission
from router.dataplane.answers import error_answer
from router.dataplane.dispatch import Dispatch
from router.dataplane.exchange import Exchange
from router.dataplane.headers import Fields
from router.dataplane.identity import Identity
from router.dataplane.local import Local
from router.dataplane.relay import Relay
from router.dataplane.retry import RULES, STATUSES, RetryBudget, Verdict, decide
from router.dataplane.routes import Routes
from router.dataplane.upstream import DISCARD, Upstream
from router.drain import Lifecycle
from router.errors import (
    BadRequest,
    DeadlineExceeded,
    DrainTimeout,
    GatewayError,
    InternalError,
    NoPodAvailable,
    PodFailure,
    PodRefused,
    Saturated,
    TotalTimeout,
    UnsupportedEncoding,
)
from router.settings import Settings
from router.telemetry.metrics import Metrics
from schedulers.types import PodId
from statesync.errors import NoRoutablePod, PoolSaturated
from statesync.health import Outcome
from statesync.view import LoadView

_log = logging.getLogger("turnout.gateway")
_access = logging.getLogger("turnout.access")

CLIENT_LEFT = 499
"""The status under which a client that went away is counted (nginx's)."""


class Parts(NamedTuple):
    """What the gateway is made of; built in `app.py`."""

    settings: Settings
    clock: Callable[[], float]
    lifecycle: Lifecycle
    local: Local
    routes: Routes
    admission: Admission
    dispatch: Dispatch
    upstream: Upstream
    view: LoadView
    identity: Identity
    metrics: Metrics
    outcome: Callable[[PodId, Outcome, float], None]


class Gateway:
    """Walks exchanges through the stages."""

    def __init__(self, parts: Parts) -> None:
        self.parts = parts
        self.budget = RetryBudget(parts.settings.retries)
        self.active: set[Exchange] = set()
        """Admitted and not ended: what a drain waits for."""
        self._log_access = parts.settings.logging.access
        parts.view.on_headroom = self._on_headroom

    # From the client to a pod

    def handle(self, exchange: Exchange) -> None:
        """Take a request from the edge. Never raises: whatever happens ends in an answer."""
        parts = self.parts
        exchange.request_id = parts.identity.request_id(exchange.noted)
        if exchange.keep_alive and parts.lifecycle.closing:
            exchange.keep_alive = False
        try:
            if (answer := parts.local.answer(exchange)) is not None:
                self._answer(exchange, answer)
                return
            self._understand(exchange)
            parts.admission.admit(exchange)
            self.active.add(exchange)
            self.budget.request()
            self._attempt(exchange)
        except GatewayError as error:
            self._refuse(exchange, error)
        except Exception:  # noqa: BLE001  a defect ends in an answer, never in a hung client
            self._defect(exchange)

    def _understand(self, exchange: Exchange) -> None:
        """Stage 2, and which pool it leads to."""
        noted = exchange.noted
        if noted.get(b"content-encoding", b"identity") != b"identity":
            raise UnsupportedEncoding("Send the body uncompressed: its content-encoding is not supported here.")
        call = exchange.call = openai.read(noted.get(b"content-type", b""), exchange.body)
        routes = self.parts.routes
        route = routes.resolve(call.model, noted.get(b"x-turnout-pool"), noted.get(b"x-turnout-cluster"))
        if route.model != call.model:
            exchange.body = openai.with_model(exchange.body, noted.get(b"content-type", b""), route.model)
            exchange.call = call._replace(model=route.model)
        exchange.pool = route.pool
        exchange.timeouts = routes.timeouts[route.pool]
        exchange.metrics = self.parts.metrics.pool(route.pool)
        exchange.deadline = _deadline(exchange)
        if exchange.deadline:
            exchange.edge.expires_at = exchange.deadline

    def _attempt(self, exchange: Exchange) -> None:
        """Stages 4 and 5, or the queue. Raises GatewayError when no pod can take it."""
        if not self._place(exchange):
            self.parts.admission.wait(exchange)
            wait_until = self.parts.clock() + self.parts.settings.limits.queue_timeout_s
            exchange.edge.expires_at = min(exchange.deadline or wait_until, wait_until)

    def _place(self, exchange: Exchange) -> bool:
        """Dispatch and send; False when the pool is saturated. Raises NoPodAvailable."""
        try:
            rejection = self.parts.dispatch.place(exchange, self.parts.routes.pools[exchange.pool])
        except PoolSaturated:
            return False
        except NoRoutablePod as error:
            raise NoPodAvailable(f"No pod can take this request now: {error}.", retry_after_s=1.0) from None
        if rejection is not None:
            raise NoPodAvailable(
                f"No pod can take this request now: {rejection.reason}.", retry_after_s=rejection.retry_after_s
            )
        exchange.attempts += 1
        self._send(exchange)
        return True

    def _send(self, exchange: Exchange, *, fresh: bool = False) -> None:
        """Stage 5."""
        pod, timeouts, metrics = exchange.pod, exchange.timeouts, exchange.metrics
        assert pod is not None and timeouts is not None and metrics is not None
        exchange.payload = self.parts.identity.request_bytes(exchange, pod)
        relay = exchange.relay = Relay(self, exchange)
        exchange.sent_at = self.parts.clock()
        if exchange.attempts == 1:
            metrics.overhead.observe(exchange.sent_at - exchange.arrived)
            metrics.bytes_in += len(exchange.payload)
        head_only = exchange.method == b"HEAD"
        self.parts.upstream.send(pod.address, exchange.payload, relay, timeouts, head_only=head_only, fresh=fresh)

    # From the pod to the client: what the relay reports

    def answered(self, relay: Relay, status: int, fields: Fields) -> bool:
        """The head came; False when another pod gets the request instead."""
        exchange = relay.exchange
        outcome = STATUSES.get(status)
        self._tell_health(exchange, outcome or Outcome.OK)
        if outcome is not None and self._again(exchange, relay, PodRefused(f"Pod answered {status}.")):
            assert relay.connection is not None
            relay.connection.receiver, relay.connection = DISCARD, None
            return False
        if exchange.keep_alive and self.parts.lifecycle.closing:
            exchange.keep_alive = False
        return True

    def identify(self, exchange: Exchange) -> list[bytes]:
        """The response headers that say who answered."""
        return self.parts.identity.response_headers(exchange)

    def first_byte(self, relay: Relay, now: float) -> None:
        """Prefill is over: for a stream this is the first token."""
        exchange = relay.exchange
        charge, pod, metrics = exchange.charge, exchange.pod, exchange.metrics
        assert charge is not None and pod is not None and metrics is not None
        self.parts.view.prefill_done(charge)
        if relay.sse and relay.status == 200:
            metrics.ttft.observe(now - exchange.arrived)
            self.parts.view.observe_ttft(pod.id, now - exchange.sent_at)

    def finished(self, relay: Relay) -> None:
        """The client has all of it."""
        exchange = relay.exchange
        self._end(exchange, relay.status)
        exchange.edge.finish(exchange.keep_alive)

    def failed(self, relay: Relay, failure: PodFailure) -> None:
        """The attempt ended early: another one, an error, or a cut stream."""
        exchange = relay.exchange
        rule = RULES[type(failure)]
        if rule.outcome is not None:
            self._tell_health(exchange, rule.outcome)
        try:
            if self._again(exchange, relay, failure):
                return
        except Exception:  # noqa: BLE001  a defect ends in an answer, never in a hung client
            self._defect(exchange)
            return
        if relay.begun:
            self._break_off(exchange, relay, failure)
        else:
            self._refuse(exchange, failure)

    # Stage 7

    def _again(self, exchange: Exchange, relay: Relay, failure: PodFailure) -> bool:
        """Start another attempt if the rules, the budget and the pods allow it."""
        parts = self.parts
        limits = parts.settings.retries
        verdict = decide(
            failure,
            begun=relay.begun,
            attempts=exchange.attempts,
            stale_tries=exchange.stale_tries,
            limits=limits,
        )
        if verdict is Verdict.GIVE_UP or exchange.pod is None:
            return False
        if verdict is Verdict.SAME_POD:
            exchange.stale_tries += 1
            parts.upstream.drop_idle(exchange.pod.address)
            self._send(exchange, fresh=True)
            return True
        if not self.budget.withdraw(parts.clock()):
            parts.metrics.count_rejection(exchange.pool, "retry_budget")
            return False
        return self._elsewhere(exchange, relay, failure)

    def _elsewhere(self, exchange: Exchange, relay: Relay, failure: PodFailure) -> bool:
        """Place the exchange on a pod not tried yet; if there is none, all stays as it is."""
        before, charge, policy = exchange.pod, exchange.charge, exchange.policy
        assert before is not None and charge is not None
        exchange.tried |= {before.id}
        try:
            placed = self._place(exchange)
        except NoPodAvailable:
            placed = False
        if not placed:
            exchange.pod, exchange.charge, exchange.policy = before, charge, policy
            return False
        self.parts.view.release(charge)
        self.parts.metrics.count_retry(exchange.pool, failure.reason)
        return True

    # Ends

    def abandon(self, exchange: Exchange) -> None:
        """The client is gone: the pod is told at once by closing its connection."""
        self._cancel(exchange)
        self.parts.metrics.client_disconnects += 1
        self._end(exchange, CLIENT_LEFT)

    def overdue(self, exchange: Exchange, now: float) -> None:
        """Its deadline passed, in the queue or at a pod."""
        if exchange.queued:
            late = exchange.deadline and now >= exchange.deadline
            kind = DeadlineExceeded if late else Saturated
            self._refuse(exchange, kind(f"No pod of pool {exchange.pool!r} had room in time.", retry_after_s=1.0))
        else:
            self._give_up(exchange, TotalTimeout("The answer did not end within the time this request has."))

    def cut_off(self) -> None:
        """The drain ran out of time: end every request, none silently."""
        for exchange in list(self.active):
            self._give_up(exchange, DrainTimeout("This gateway is going away and its drain time is over; try again."))

    def refused(self, error: GatewayError) -> None:
        """The edge refused bytes that never became a request."""
        self.parts.metrics.count_request("-", "-", "-", error.told.status)

    def _give_up(self, exchange: Exchange, failure: PodFailure) -> None:
        relay = exchange.relay
        self._cancel(exchange)
        if relay is not None and relay.begun:
            self._break_off(exchange, relay, failure)
        else:
            self._refuse(exchange, failure)

    def _break_off(self, exchange: Exchange, relay: Relay, failure: PodFailure) -> None:
        _log.warning("answer cut short: %s", failure.message, extra={"request_id": exchange.info and exchange.info.id})
        relay.break_off(failure)
        self._end(exchange, failure.told.status)

    def _refuse(self, exchange: Exchange, error: GatewayError) -> None:
        """Answer with an error; the connection lives on unless its bytes are in doubt."""
        if error.told.closes:
            exchange.keep_alive = False
        if not isinstance(error, PodFailure):
            self.parts.metrics.count_rejection(exchange.pool, error.told.code or error.told.type)
        answer = error_answer(
            error,
            self.parts.identity.error_headers(exchange),
            close=not exchange.keep_alive,
            head_only=exchange.method == b"HEAD",
            anthropic=exchange.speaks_anthropic,
        )
        exchange.edge.write(answer)
        self._end(exchange, error.told.status)
        exchange.edge.finish(exchange.keep_alive)

    def _defect(self, exchange: Exchange) -> None:
        name = exchange.request_id.decode("latin-1")
        _log.exception("a request met a defect of the gateway", extra={"request_id": name})
        self._cancel(exchange)
        if exchange.relay is not None and exchange.relay.begun:
            self._end(exchange, 500)
            exchange.edge.abort()
        else:
            self._refuse(exchange, InternalError(f"The gateway failed on this request; its log has {name}."))

    def _answer(self, exchange: Exchange, answer: bytes) -> None:
        exchange.edge.write(answer)
        exchange.done = True
        exchange.edge.finish(exchange.keep_alive)

    def _cancel(self, exchange: Exchange) -> None:
        relay = exchange.relay
        if relay is not None:
            relay.cancel()

    def _end(self, exchange: Exchange, status: int) -> None:
        """Give back what the exchange holds and count it, once."""
        if exchange.done:
            return
        exchange.done = True
        parts = self.parts
        exchange.relay = None  # it points back: a cycle that only the garbage collector would find
        if exchange.charge is not None:
            parts.view.release(exchange.charge)
        parts.admission.leave(exchange)
        self.active.discard(exchange)
        metrics = exchange.metrics
        if metrics is not None:
            metrics.e2e.observe(parts.clock() - exchange.arrived)
        pod = exchange.pod.id if exchange.pod is not None else "-"
        parts.metrics.count_request(exchange.pool, exchange.policy, pod, status)
        if self._log_access:
            self._log_line(exchange, status, pod)

    def _log_line(self, exchange: Exchange, status: int, pod: str) -> None:
        extra = {
            "request_id": exchange.request_id.decode("latin-1"),
            "pool": exchange.pool,
            "pod": pod,
            "policy": exchange.policy,
            "status": status,
            "attempts": exchange.attempts,
            "duration_s": round(self.parts.clock() - exchange.arrived, 6),
        }
        _access.info("%s %s", exchange.method.decode(), exchange.path.decode("latin-1"), extra=extra)

    def _tell_health(self, exchange: Exchange, outcome: Outcome) -> None:
        if exchange.pod is not None:
            self.parts.outcome(exchange.pod.id, outcome, self.parts.clock())

    def _on_headroom(self, pool: str) -> None:
        if self.parts.admission.queued:
            asyncio.get_running_loop().call_soon(self._serve_queue, pool)

    def _serve_queue(self, pool: str) -> None:
        self.parts.admission.serve(pool, self._retry_queued)

    def _retry_queued(self, exchange: Exchange) -> bool:
        try:
            if not self._place(exchange):
                return False
            exchange.edge.expires_at = exchange.deadline or float("inf")
        except GatewayError as error:
            self._refuse(exchange, error)
        except Exception:  # noqa: BLE001  a defect ends in an answer, never in a hung client
            self._defect(exchange)
        return True


def _deadline(exchange: Exchange) -> float:
    """When the request must be over, on the clock of `arrived`; 0.0 for never."""
    timeouts = exchange.timeouts
    total_s = timeouts.total_s if timeouts is not None else 0.0
    raw = exchange.noted.get(b"x-turnout-deadline-ms")
    if raw is not None:
        try:
            asked_s = int(raw) / 1000
        except ValueError:
            raise BadRequest("The header x-turnout-deadline-ms must be a whole number of milliseconds.") from None
        if asked_s <= 0:
            raise BadRequest("The header x-turnout-deadline-ms must be more than 0.")
        total_s = min(total_s, asked_s) if total_s else asked_s
    return exchange.arrived + total_s if total_s else 0.0
