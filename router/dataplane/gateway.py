"""The life of a request, a line a stage. Read `handle`, then `_attempt`, then what the relay reports back.

Everything here is synchronous: a request is carried from event to event by its `Exchange`, with no task of its own.
"""

from __future__ import annotations

import asyncio

from router.dataplane import openai
from router.dataplane.endings import Endings
from router.dataplane.exchange import Exchange
from router.dataplane.parts import Parts
from router.dataplane.relay import Relay
from router.dataplane.retry import RULES, STATUSES, RetryBudget, Verdict, decide
from router.dataplane.sweep import NEVER
from router.dataplane.upstream import DISCARD
from router.errors import (
    BadRequest,
    DeadlineExceeded,
    DrainTimeout,
    GatewayError,
    NoPodAvailable,
    PodFailure,
    PodRefused,
    Saturated,
    TotalTimeout,
    UnsupportedEncoding,
)
from statesync.errors import NoRoutablePod, PoolSaturated
from statesync.health import Outcome


class Gateway:
    """Walks exchanges through the stages."""

    def __init__(self, parts: Parts) -> None:
        self.parts = parts
        self.budget = RetryBudget(parts.settings.retries, parts.clock())
        self.endings = Endings(parts)
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
                self.endings.answer(exchange, answer)
                return
            self._understand(exchange)
            parts.admission.admit(exchange)
            self.budget.request()
            self._attempt(exchange)
        except GatewayError as error:
            self.endings.refuse(exchange, error)
        except Exception:  # noqa: BLE001  a defect ends in an answer, never in a hung client
            self.endings.defect(exchange)

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
        payload = self.parts.identity.request_bytes(exchange, pod)
        relay = exchange.relay = Relay(self, exchange)
        exchange.sent_at = self.parts.clock()
        if exchange.attempts == 1:
            metrics.overhead.observe(exchange.sent_at - exchange.arrived)
            metrics.bytes_in += len(payload)
        head_only = exchange.method == b"HEAD"
        tap = self.parts.tap
        receiver = relay if tap is None else tap(exchange, relay)
        self.parts.upstream.send(pod.address, payload, receiver, timeouts, head_only=head_only, fresh=fresh)

    # From the pod to the client: what the relay reports

    def answered(self, relay: Relay, status: int) -> bool:
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
        self.endings.end(exchange, relay.status)
        exchange.edge.finish(exchange.keep_alive)
        if exchange.chain and relay.status == 200 and self.parts.learn is not None:
            self.parts.learn(exchange, relay.tail)

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
            self.endings.defect(exchange)
            return
        if relay.begun:
            self.endings.break_off(exchange, relay, failure)
        else:
            self.endings.refuse(exchange, failure)

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

    # From outside

    def abandon(self, exchange: Exchange) -> None:
        """The client is gone: the pod is told at once by closing its connection."""
        self.endings.abandon(exchange)

    def overdue(self, exchange: Exchange, now: float) -> None:
        """Its deadline passed, in the queue or at a pod."""
        if exchange.queued:
            late = exchange.deadline and now >= exchange.deadline
            kind = DeadlineExceeded if late else Saturated
            error = kind(f"No pod of pool {exchange.pool!r} had room in time.", retry_after_s=1.0)
            self.endings.refuse(exchange, error)
        else:
            self.endings.give_up(exchange, TotalTimeout("The answer did not end within the time this request has."))

    def cut_off(self) -> None:
        """The drain ran out of time: end every request, none silently."""
        for exchange in list(self.parts.admission.active):
            failure = DrainTimeout("This gateway is going away and its drain time is over; try again.")
            self.endings.give_up(exchange, failure)

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
            exchange.edge.expires_at = exchange.deadline or NEVER
        except GatewayError as error:
            self.endings.refuse(exchange, error)
        except Exception:  # noqa: BLE001  a defect ends in an answer, never in a hung client
            self.endings.defect(exchange)
        return True


def _deadline(exchange: Exchange) -> float:
    """When the request must be over, on the clock of `arrived`; 0.0 for never."""
    timeouts = exchange.timeouts
    total_s = timeouts.total_s if timeouts is not None else 0.0
    raw = exchange.noted.get(b"x-turnout-deadline-ms")
    if raw is not None:
        try:
            asked_s = int(raw) / 1000
        except (ValueError, OverflowError):
            raise BadRequest("The header x-turnout-deadline-ms must be a whole number of milliseconds.") from None
        if asked_s <= 0:
            raise BadRequest("The header x-turnout-deadline-ms must be more than 0.")
        total_s = min(total_s, asked_s) if total_s else asked_s
    return exchange.arrived + total_s if total_s else 0.0
