"""Stage 5: one pod gets the request. Sends an exchange to the pod that dispatch chose, acts on what its relay reports,
and starts the next attempt where one failed. `retry.py` decides which failures allow another attempt.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from router.access.limit_headers import without_limits
from router.dataplane.completion import Completion
from router.dataplane.deps import GatewayDeps, PairSender
from router.dataplane.exchange import FAILED, Exchange, Placement, RoutedRequest
from router.dataplane.failover.reasons import MOVED
from router.dataplane.fallback import Fallbacks
from router.dataplane.http.response_parser import ResponseHead
from router.dataplane.http.upstream_connection import Receiver
from router.dataplane.prefix_feedback import MARK
from router.dataplane.relay import Relay, RelayListener
from router.dataplane.request.routes import Route
from router.dataplane.retry import IDEMPOTENT, RULES, STATUSES, UNSENT, RetryBudget, RetryDecision, decide
from router.dataplane.routing import Routing
from router.dataplane.slo_meter import SloMeter
from router.dataplane.upgrade import UpgradeReceiver
from router.errors import NoPodAvailable, PodFailure, PodRefused
from router.settings import HOLD
from schedulers.types import PodId, Rejection
from statesync.engines.health import Outcome
from statesync.errors import NoRoutablePod, PoolSaturated


class Mover(Protocol):
    """Lets streams go on on other pods: `StreamMover`."""

    def relay(self, listener: RelayListener, exchange: Exchange, placement: Placement, /) -> Relay:
        """The relay of an attempt whose answer may be moved."""
        ...

    def moved(self, relay: Relay, failure: PodFailure, /) -> bool:
        """The pod failed in the middle of its answer: whether the client gets the rest of it all the same. If not, the
        message of the failure says why."""
        ...


class Attempts:
    """Makes attempts: the `RelayListener` of all relays."""

    def __init__(self, deps: GatewayDeps, routing: Routing, completion: Completion) -> None:
        self._completion = completion
        self._clock = deps.clock
        self._lifecycle = deps.lifecycle
        self._routing = routing
        self._pools = deps.routes.every
        self._services = (deps.routes.every.keys() - deps.routes.pools.keys()) or None
        self._dispatch = deps.dispatch
        self._upstream = deps.upstream
        self._view = deps.view
        self._identity = deps.identity
        self._metrics = deps.metrics
        self._outcome = deps.outcome
        self._unsettled = deps.unsettled
        self.tap = deps.tap
        """See `GatewayDeps.tap`."""
        self._learn = deps.learn
        self._owners = deps.owners
        self._homes = deps.homes
        self._limits = deps.limits
        self._holding = frozenset(name for name, pool in self._pools.items() if pool.affinity == HOLD)
        self._retries = deps.settings.retries
        self._shares = deps.shares
        self.hold: Callable[[Relay, ResponseHead, int, int], bool] | None = None
        """See `ModelMisses.hold`."""
        self.wait_again: Callable[[Exchange], bool] | None = None
        """Queues an exchange that waits for its own pod once more; the queue sets it."""
        self.pairs: PairSender | None = None
        """Sends the requests that two pods serve; None where no pool has `disaggregation`."""
        self.mover: Mover | None = None
        """Moves streams to other pods; None where no pool asks for it."""
        self.fallbacks = Fallbacks(deps, routing, self.place)
        self.budget = RetryBudget(self._retries, self._clock())

    def place(self, exchange: Exchange) -> bool:
        """Choose a pod and send the request to it. False when the pool is saturated; raises NoPodAvailable when no pod
        can be used."""
        routed = exchange.routed
        try:
            pinned = routed.pins is not None and not routed.waits  # a session may have got another own pod meanwhile
            if pinned or (routed.pool in self._holding and self._hold(exchange)):
                placed: Placement | Rejection = self._dispatch.pin(exchange, routed.pins or ())
            else:
                placed = self._dispatch.place(exchange, self._pools[routed.pool])
        except PoolSaturated:
            return False
        except NoRoutablePod as error:
            raise NoPodAvailable(f"No pod can take this request now: {error}.", retry_after_s=1.0) from None
        if isinstance(placed, Rejection):
            if exchange.tried and self._others_are_full(exchange):
                return False
            raise NoPodAvailable(
                f"No pod of pool {routed.pool!r} can take this request now: {placed.reason}.",
                retry_after_s=placed.retry_after_s,
            )
        if routed.pins is not None and len(routed.pins) > 1:
            routed = self._in_pool_of(exchange, placed.pod.id)
        exchange.attempts += 1
        routed.attempts += 1
        # A kept-alive connection that breaks does not show whether the pod had the request already.
        self.send(exchange, placed, fresh=self._services is not None and self.only_once(exchange))
        return True

    def _others_are_full(self, exchange: Exchange) -> bool:
        """Whether a pod that failed the exchange has room and the others have none: it waits for one of them."""
        pool = exchange.routed.pool
        if pool in self._view.mixed:
            return False
        others = [each for each in self._view.statuses(pool) if not each.blockers and each.pod.id not in exchange.tried]
        return bool(others) and all(each.limit is not None and each.load.inflight >= each.limit for each in others)

    def only_once(self, exchange: Exchange) -> bool:
        """Whether the request may reach a pod only once: sent again, it might be done twice (RFC 9110, 9.2.2)."""
        services = self._services
        return services is not None and exchange.routed.pool in services and exchange.method not in IDEMPOTENT

    def _hold(self, exchange: Exchange) -> bool:
        """Pin the exchange to its session's own pod as it is now; False where it has no session, or that no pod."""
        routed, session = exchange.routed, self._dispatch.session(exchange)
        home = None
        if session and self._homes is not None:
            home = self._homes.home(routed.pool, session, routed.call.model)
        routed.waits = home is not None
        routed.pins = None if home is None else (home,)
        return routed.waits

    def _in_pool_of(self, exchange: Exchange, pod: PodId) -> RoutedRequest:
        """The request as the pool of this pod gets it. Pods of several pools may be asked for state: none of them gets
        the key of another pool."""
        before, pool = exchange.routed, self._view.pool_of(pod)
        if pool == before.pool:
            return before
        way = Route(pool, before.call.model)
        routed = exchange.routed = self._routing.routed_to(exchange, way, before.call, before.body, before.deadline)
        routed.pins, routed.info, routed.attempts = before.pins, before.info, before.attempts
        return routed

    def send(self, exchange: Exchange, placement: Placement, *, fresh: bool = False, again: bool = False) -> None:
        """Send to the pod of the placement. `fresh`: over a new connection, not a kept-alive one. `again`: another pod
        of the same attempt had the request before."""
        if self.pairs is not None and not again and self.pairs.takes(exchange, placement, fresh=fresh):
            return
        if self.mover is None or exchange.routed.movable is None:
            relay = Relay(self, exchange, placement)
        else:
            relay = self.mover.relay(self, exchange, placement)
        exchange.relay = relay
        receiver = relay if self.tap is None else self.tap(exchange, relay)
        payload = self._identity.request(exchange, placement.pod)
        self.begun(exchange, relay, payload, again=again)
        self.transmit(exchange, relay, receiver, payload, fresh=fresh)

    def begun(self, exchange: Exchange, relay: Relay, payload: list[bytes], *, again: bool = False) -> None:
        """The request is about to be sent: note when, and once for each request what was sent."""
        sent_at = relay.sent_at = self._clock()
        if exchange.attempts == 1 and not exchange.stale_tries and not again:
            metrics = exchange.routed.metrics
            metrics.overhead.observe(sent_at - exchange.arrived)
            metrics.bytes_in += sum(map(len, payload))
            if self._shares is not None:
                self._shares.dispatched(exchange)

    def transmit(
        self, exchange: Exchange, relay: Relay, receiver: Receiver, payload: list[bytes], *, fresh: bool
    ) -> None:
        """Send to the relay's pod; `receiver` is the relay, or what `tap` made of it."""
        routed, pod = exchange.routed, relay.placement.pod
        counts = routed.arm is not None or (exchange.tenant is not None and self._counts_tokens(exchange))
        if routed.slo is not None or (counts and routed.stream):
            if relay.begun and isinstance(routed.meter, SloMeter):
                receiver = routed.meter.goes_on(relay, receiver)
            else:
                receiver = routed.meter = SloMeter(exchange.arrived, relay, receiver)
        if exchange.refs is not None:
            receiver = self._owners.receiver(exchange, pod.id, receiver)
        if exchange.upgrade:
            receiver, fresh = UpgradeReceiver(relay), True
        head_only = exchange.method == b"HEAD"
        self._upstream.send(
            pod.address, payload, receiver, routed.timeouts, head_only=head_only, fresh=fresh, pool=routed.pool
        )

    def _counts_tokens(self, exchange: Exchange) -> bool:
        """Whether the tokens of a tenant's answer are to be known, also of a stream without usage."""
        return self._shares is not None or (exchange.charge is not None and exchange.charge.counts_tokens)

    # What the relay reports

    def holds(self, relay: Relay, head: ResponseHead, framing: int, length: int) -> bool:
        """The head of a 404 came: whether `ModelMisses` reads the body before the client gets any of it."""
        return self.hold is not None and self.hold(relay, head, framing, length)

    def answered(self, relay: Relay, status: int) -> bool:
        """The pod's status came. False when another pod gets the request instead."""
        exchange = relay.exchange
        outcome = STATUSES.get(status)
        if outcome is not None or relay.placement.pod.id in self._unsettled:
            self._report_health(relay, outcome or Outcome.OK)
        if (
            outcome is not None
            and (status == 503 or not self.only_once(exchange))
            and self.try_again(relay, PodRefused(f"Pod answered {status}."), relay.placement.pod.id)
        ):
            relay.discard()
            return False
        if status == 404 and exchange.refs is not None and self._ask_next(relay):
            relay.discard()
            return False
        if exchange.keep_alive and self._lifecycle.closing:
            exchange.keep_alive = False
        return True

    def headers(self, relay: Relay, head: ResponseHead) -> list[bytes]:
        """The pod's response headers, and those that name request, pod and replica."""
        identity, exchange = self._identity, relay.exchange
        own, kept = identity.response_headers(exchange, relay.placement), head.kept
        if head.status != 200 or identity.rewrites:
            kept = identity.pods_headers(exchange, relay.placement.pod, head)
        if self._limits is not None and (lines := self._limits.lines(exchange)):
            return [*(without_limits(kept) if head.limited else kept), *own, lines]
        return [*kept, *own]

    def first_byte(self, relay: Relay, now: float) -> None:
        """The first body byte came: prefill is over, and of a stream this is the first token."""
        exchange, placement = relay.exchange, relay.placement
        routed = exchange.routed
        self._view.prefill_done(placement.charge)
        if relay.last_at:  # another pod goes on with a stream that began earlier
            self._metrics.count_move(routed.pool, MOVED)
            return
        token = relay.sse and relay.status == 200
        if routed.arm is not None:
            routed.arm.first_byte(routed, now - exchange.arrived, token=token)
        if token:
            took_s, expected_s = now - relay.sent_at, placement.charge.expected_s
            routed.metrics.ttft.observe(now - exchange.arrived)
            if expected_s:
                routed.metrics.ttft_ratio.observe(took_s / expected_s)
            self._view.observe_ttft(placement.pod.id, took_s, expected_s)
            if self._shares is not None:
                self._shares.first_token(exchange)

    def finished(self, relay: Relay) -> None:
        """The answer is complete: end the exchange, and learn what the engine reports as cached."""
        exchange, learn = relay.exchange, self._learn
        self._completion.end(exchange, relay.status)
        exchange.edge.finish(exchange.keep_alive)
        if learn is not None and relay.tail.find(MARK) >= 0 and exchange.routed.chain and relay.status == 200:
            learn(exchange.routed.call, relay.placement, relay.tail)

    def failed(self, relay: Relay, failure: PodFailure) -> None:
        """The attempt ended early: start another one, answer with an error, or cut the answer that has begun."""
        outcome = RULES[type(failure)].outcome
        if outcome is not None:
            self._report_health(relay, outcome)
        try:
            if self.try_again(relay, failure, relay.placement.pod.id) or (relay.begun and self._moves(relay, failure)):
                return
        except Exception:  # noqa: BLE001  a defect ends in an answer, never in a client that waits forever
            self._completion.defect(relay.exchange)
            return
        if relay.begun:
            self._completion.break_off(relay.exchange, relay, failure)
        else:
            self._completion.refuse(relay.exchange, failure)

    def _moves(self, relay: Relay, failure: PodFailure) -> bool:
        """Let another pod go on with an answer that the client has part of, where the pool wants that."""
        return relay.exchange.routed.movable is not None and self.mover is not None and self.mover.moved(relay, failure)

    def _report_health(self, relay: Relay, outcome: Outcome) -> None:
        self._outcome(relay.placement.pod.id, outcome, self._clock())

    # Stage 7: another attempt

    def try_again(self, relay: Relay, failure: PodFailure, pod: PodId) -> bool:
        """Start another attempt if the rules, the budget and the pods allow it, without `pod`, which failed; returns
        whether one was started."""
        exchange = relay.exchange
        if type(failure) not in UNSENT and self.only_once(exchange):
            return False
        if exchange.routed.waits and not relay.begun and RULES[type(failure)].decision is RetryDecision.ANOTHER_POD:
            return self._wait_again(relay, failure)
        decision = decide(
            failure,
            begun=relay.begun,
            attempts=exchange.routed.attempts,
            stale_tries=exchange.stale_tries,
            limits=self._retries,
        )
        if decision is RetryDecision.GIVE_UP:
            return False
        if decision is RetryDecision.SAME_POD:
            exchange.stale_tries += 1
            self._upstream.drop_idle(relay.placement.pod.address)
            self.send(exchange, relay.placement, fresh=True)
            return True
        if decision is RetryDecision.ANOTHER_POOL and not self.fallbacks.pools(exchange):
            return False
        if not self.budget.withdraw(self._clock()):
            self._metrics.count_rejection(exchange.routed.pool, "retry_budget")
            return False
        return self._try_another_pod(relay, failure, pod, same_pool=decision is RetryDecision.ANOTHER_POD)

    def _wait_again(self, relay: Relay, failure: PodFailure) -> bool:
        """Queue an exchange whose own pod failed it, or that another pod failed while the rest are full. False when it
        has waited long enough."""
        exchange = relay.exchange
        if self.wait_again is None or not self.wait_again(exchange):
            return False
        exchange.placement = exchange.relay = None
        self._view.release(relay.placement.charge)
        self._metrics.count_retry(exchange.routed.pool, failure.reason)
        return True

    def _ask_next(self, relay: Relay) -> bool:
        """Ask the next pod for state that nothing is known of and that this one does not have. No pod did any work, so
        that no budget is charged."""
        failure = PodRefused("The pod does not have it.")
        pod = relay.placement.pod.id
        return len(relay.exchange.routed.pins or ()) > 1 and self._try_another_pod(relay, failure, pod, same_pool=True)

    def _try_another_pod(self, relay: Relay, failure: PodFailure, pod: PodId, *, same_pool: bool) -> bool:
        """Place the exchange on a pod that was not tried yet, as `pod` was: of its own pool if `same_pool`, then of a
        fall-back. It waits where those of its pool have no room: a failing pod has, and would get every request.

        False when there is none; then only `tried` has changed.
        """
        exchange, pool = relay.exchange, relay.exchange.routed.pool
        exchange.tried |= self._dispatch.together(pod)
        placed = waits = False
        if same_pool:
            try:
                placed = self.place(exchange)
                # A pair whose prefill pod failed has a decode pod, which may do without it.
                waits = not placed and pod == relay.placement.pod.id and self._others_are_full(exchange)
            except NoPodAvailable:
                placed = False
        if not placed and not self.fallbacks.take(exchange, FAILED):
            return waits and self._wait_again(relay, failure)
        self._view.release(relay.placement.charge)
        self._metrics.count_retry(pool, failure.reason)
        return True
