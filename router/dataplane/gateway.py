"""The life of a request, a line a stage. Read `handle`, then `_attempt`, then what the relay reports back.

Everything here is synchronous: a request is carried from event to event by its `Exchange`, with no task of its own.
"""

from __future__ import annotations

import asyncio

from router.dataplane.completion import Completion
from router.dataplane.deps import GatewayDeps
from router.dataplane.exchange import Exchange
from router.dataplane.fallback import FAILED, NO_POD, SATURATED, Fallbacks
from router.dataplane.http.deadlines import NEVER
from router.dataplane.http.upstream import DISCARD
from router.dataplane.relay import Relay
from router.dataplane.request import openai
from router.dataplane.retry import RULES, STATUSES, RetryBudget, RetryDecision, decide
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
from statesync.engines.health import Outcome
from statesync.errors import NoRoutablePod, PoolSaturated


class Gateway:
    """Walks exchanges through the stages."""

    def __init__(self, parts: GatewayDeps) -> None:
        self.parts = parts
        self.budget = RetryBudget(parts.settings.retries, parts.clock())
        self.completion = Completion(parts)
        self.fallbacks = Fallbacks(parts, self._place)
        parts.view.on_headroom = self._on_headroom

    # From the client to a pod

    def handle(self, exchange: Exchange) -> None:
        """Take a request from the edge. Never raises: whatever happens ends in an answer."""
        parts = self.parts
        exchange.request_id = parts.identity.request_id(exchange.header_map)
        if exchange.keep_alive and parts.lifecycle.closing:
            exchange.keep_alive = False
        try:
            if (answer := parts.local.answer(exchange)) is not None:
                self.completion.answer(exchange, answer)
                return
            self._understand(exchange)
            parts.admission.admit(exchange)
            self.budget.request()
            self._attempt(exchange)
        except GatewayError as error:
            self.completion.refuse(exchange, error)
        except Exception:  # noqa: BLE001  a defect ends in an answer, never in a hung client
            self.completion.defect(exchange)

    def _understand(self, exchange: Exchange) -> None:
        """Stage 2, and which pool it leads to."""
        header_map = exchange.header_map
        if header_map.get(b"content-encoding", b"identity") != b"identity":
            raise UnsupportedEncoding("Send the body uncompressed: its content-encoding is not supported here.")
        call = exchange.call = openai.read(header_map.get(b"content-type", b""), exchange.body)
        routes = self.parts.routes
        exchange.asked = call.model
        if b"x-turnout-pool" in header_map or b"x-turnout-cluster" in header_map or b"x-turnout-fallback" in header_map:
            route = self.parts.targets.route(routes, call.model, header_map)
        else:
            route = routes.resolve(call.model)
        if route.model != call.model:
            exchange.body = openai.with_model(exchange.body, header_map.get(b"content-type", b""), route.model)
            exchange.call = call._replace(model=route.model)
        exchange.pool = route.pool
        exchange.timeouts = routes.timeouts[route.pool]
        exchange.metrics = self.parts.metrics.pool(route.pool)
        exchange.deadline = _deadline(exchange)
        if exchange.deadline:
            exchange.edge.expires_at = exchange.deadline

    def _attempt(self, exchange: Exchange) -> None:
        """Stages 4 and 5, in a fall-back pool if need be, or the queue. Raises GatewayError when no pod can take it."""
        try:
            placed = self._place(exchange)
        except NoPodAvailable:
            if not self.fallbacks.take(exchange, NO_POD):
                raise
            return
        if placed:
            return
        wait_s = self.fallbacks.due_s(exchange)
        if wait_s > 0 or not self.fallbacks.take(exchange, SATURATED):
            self._wait(exchange, wait_s)

    def _wait(self, exchange: Exchange, fall_back_after_s: float) -> None:
        """Stand in line: for the pool's own pods, and for those of its fall-backs once it may go there."""
        now = self.parts.clock()
        try:
            self.parts.admission.wait(exchange, () if fall_back_after_s else self.fallbacks.pools(exchange))
        except Saturated:
            if not fall_back_after_s or not self.fallbacks.take(exchange, SATURATED):
                raise
            return
        exchange.wait_until = min(exchange.deadline or NEVER, now + self.parts.settings.limits.queue_timeout_s)
        exchange.edge.expires_at = min(exchange.wait_until, now + (fall_back_after_s or NEVER))

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
                f"No pod of pool {exchange.pool!r} can take this request now: {rejection.reason}.",
                retry_after_s=rejection.retry_after_s,
            )
        exchange.attempts += 1
        self._send(exchange)
        return True

    def _send(self, exchange: Exchange, *, fresh: bool = False) -> None:
        """Stage 5."""
        pod, timeouts, metrics = exchange.pod, exchange.timeouts, exchange.metrics
        assert pod is not None and timeouts is not None and metrics is not None
        payload = self.parts.identity.request_parts(exchange, pod)
        relay = exchange.relay = Relay(self, exchange)
        exchange.sent_at = self.parts.clock()
        if exchange.attempts == 1:
            metrics.overhead.observe(exchange.sent_at - exchange.arrived)
            metrics.bytes_in += sum([len(part) for part in payload])
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
        token = relay.sse and relay.status == 200
        if exchange.arm is not None:
            exchange.arm.first_byte(exchange, now - exchange.arrived, token=token)
        if token:
            metrics.ttft.observe(now - exchange.arrived)
            self.parts.view.observe_ttft(pod.id, now - exchange.sent_at)

    def finished(self, relay: Relay) -> None:
        """The client has all of it."""
        exchange = relay.exchange
        self.completion.end(exchange, relay.status)
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
            self.completion.defect(exchange)
            return
        if relay.begun:
            self.completion.break_off(exchange, relay, failure)
        else:
            self.completion.refuse(exchange, failure)

    # Stage 7

    def _again(self, exchange: Exchange, relay: Relay, failure: PodFailure) -> bool:
        """Start another attempt if the rules, the budget and the pods allow it."""
        parts = self.parts
        limits = parts.settings.retries
        verdict = decide(
            failure,
            begun=relay.begun,
            attempts=exchange.attempts
            - (0 if exchange.fallback_state is None else exchange.fallback_state.attempts_before),
            stale_tries=exchange.stale_tries,
            limits=limits,
        )
        if verdict is RetryDecision.GIVE_UP or exchange.pod is None:
            return False
        if verdict is RetryDecision.SAME_POD:
            exchange.stale_tries += 1
            parts.upstream.drop_idle(exchange.pod.address)
            self._send(exchange, fresh=True)
            return True
        if verdict is RetryDecision.ANOTHER_POOL and not self.fallbacks.pools(exchange):
            return False
        if not self.budget.withdraw(parts.clock()):
            parts.metrics.count_rejection(exchange.pool, "retry_budget")
            return False
        return self._elsewhere(exchange, failure, here=verdict is RetryDecision.ANOTHER_POD)

    def _elsewhere(self, exchange: Exchange, failure: PodFailure, *, here: bool) -> bool:
        """Place the exchange on a pod not tried yet, of its pool (`here`) or of a fall-back; if there is none, all
        stays as it is."""
        before, charge, policy, pool = exchange.pod, exchange.charge, exchange.policy, exchange.pool
        assert before is not None and charge is not None
        exchange.tried |= {before.id}
        placed = False
        if here:
            try:
                placed = self._place(exchange)
            except NoPodAvailable:
                placed = False
        if not placed and not self.fallbacks.take(exchange, FAILED):
            exchange.pod, exchange.charge, exchange.policy = before, charge, policy
            return False
        self.parts.view.release(charge)
        self.parts.metrics.count_retry(pool, failure.reason)
        return True

    # From outside

    def abandon(self, exchange: Exchange) -> None:
        """The client is gone: the pod is told at once by closing its connection."""
        self.completion.abandon(exchange)

    def overdue(self, exchange: Exchange, now: float) -> None:
        """Its deadline passed, at a pod or in the queue; or it has stood there long enough to try a fall-back."""
        if not exchange.queued:
            self.completion.give_up(exchange, TotalTimeout("The answer did not end within the time this request has."))
            return
        late = exchange.deadline and now >= exchange.deadline
        try:
            if not late and self._step_out(exchange):
                return
        except Exception:  # noqa: BLE001  a defect ends in an answer, never in a hung client
            self.completion.defect(exchange)
            return
        if now < exchange.wait_until:
            self.parts.admission.join(exchange, self.fallbacks.pools(exchange))
            exchange.edge.expires_at = exchange.wait_until
            return
        kind = DeadlineExceeded if late else Saturated
        error = kind(f"No pod of pool {exchange.pool!r} had room in time.", retry_after_s=1.0)
        self.completion.refuse(exchange, error)

    def _step_out(self, exchange: Exchange) -> bool:
        """From the line into a fall-back that has room; else it keeps its place."""
        self.parts.admission.step_out(exchange)
        if self.fallbacks.take(exchange, SATURATED):
            return True
        self.parts.admission.step_back(exchange)
        return False

    def cut_off(self) -> None:
        """The drain ran out of time: end every request, none silently."""
        for exchange in list(self.parts.admission.active):
            failure = DrainTimeout("This gateway is going away and its drain time is over; try again.")
            self.completion.give_up(exchange, failure)

    def _tell_health(self, exchange: Exchange, outcome: Outcome) -> None:
        if exchange.pod is not None:
            self.parts.outcome(exchange.pod.id, outcome, self.parts.clock())

    def _on_headroom(self, pool: str) -> None:
        if self.parts.admission.queued:
            asyncio.get_running_loop().call_soon(self._serve_queue, pool)

    def _serve_queue(self, pool: str) -> None:
        self.parts.admission.serve(pool, lambda exchange: self._retry_queued(exchange, pool))

    def _retry_queued(self, exchange: Exchange, pool: str) -> bool:
        """There is room in `pool`; False when there is no more."""
        try:
            return self._place_queued(exchange, pool)
        except GatewayError as error:
            self.completion.refuse(exchange, error)
        except Exception:  # noqa: BLE001  a defect ends in an answer, never in a hung client
            self.completion.defect(exchange)
        return True

    def _place_queued(self, exchange: Exchange, pool: str) -> bool:
        try:
            if self._place(exchange):
                exchange.edge.expires_at = exchange.deadline or NEVER
                return True
        except NoPodAvailable:
            if not self.fallbacks.take(exchange, NO_POD):
                raise
            return True
        if pool == exchange.pool:
            return False
        if self.fallbacks.take(exchange, SATURATED):
            return True
        if exchange.fallback_state is not None and exchange.fallback_state.tried.get(pool) == SATURATED:
            return False
        # The room there is not for this request: it waits for its own pool, and those behind it go on.
        self.parts.admission.step_back(exchange)
        return True


def _deadline(exchange: Exchange) -> float:
    """When the request must be over, on the clock of `arrived`; 0.0 for never."""
    timeouts = exchange.timeouts
    total_s = timeouts.total_s if timeouts is not None else 0.0
    raw = exchange.header_map.get(b"x-turnout-deadline-ms")
    if raw is not None:
        try:
            asked_s = int(raw) / 1000
        except (ValueError, OverflowError):
            raise BadRequest("The header x-turnout-deadline-ms must be a whole number of milliseconds.") from None
        if asked_s <= 0:
            raise BadRequest("The header x-turnout-deadline-ms must be more than 0.")
        total_s = min(total_s, asked_s) if total_s else asked_s
    return exchange.arrived + total_s if total_s else 0.0
