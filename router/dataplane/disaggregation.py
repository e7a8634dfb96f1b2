"""Stage 5c: requests that two pods serve. The prefill pod gets its request first, and its answer goes into the decode
pod's; with SGLang's protocol both are sent at once. The client gets the decode pod's answer.

A relay with a prefill leg passes on whatever ends it: a client that leaves, a deadline, another attempt. So neither pod
works for a request that is over, and what was reserved on the prefill pod is given back once. Knows no policy: which
pods there are is in the `PairPlacement`. A request of one pod does not pass this file.
"""

from __future__ import annotations

from collections.abc import Set as AbstractSet
from typing import Final

import msgspec

from router.dataplane.attempt import Attempts
from router.dataplane.completion import Completion
from router.dataplane.deps import GatewayDeps
from router.dataplane.exchange import Exchange, Placement
from router.dataplane.http.response_parser import ResponseHead
from router.dataplane.http.upstream_connection import Receiver, UpstreamConnection
from router.dataplane.pair_dispatch import PairDispatch, PairPlacement
from router.dataplane.prefix_feedback import MARK, TAIL_BYTES
from router.dataplane.relay import Relay
from router.dataplane.request.kv_transfer import with_params
from router.dataplane.retry import RULES, STATUSES
from router.errors import BadAnswer, PodFailure, PodGone, PodRefused, StaleConnection
from schedulers.types import PodId
from statesync.engines.health import Outcome
from statesync.errors import UnknownPod

MAX_ANSWER: Final = 4 << 20
"""Bytes of a prefill pod's answer: block numbers of a long prompt, and one token. A longer one is none."""

OK: Final = 200
FAILED_TRANSFER: Final = 500
"""What a decode pod answers whose transfer failed (vLLM's `kv_load_failure_policy: fail`)."""


class PrefillLeg:
    """The prefill pod's request: receives its answer."""

    __slots__ = ("_connection", "_owner", "_pieces", "_size", "placement", "relay", "sent_at", "status")

    def __init__(self, owner: PairStage, relay: PairRelay, placement: Placement, sent_at: float) -> None:
        self._owner = owner
        self.relay = relay
        self.placement = placement
        """On the prefill pod."""
        self.sent_at = sent_at
        self.status = 0
        self._connection: UpstreamConnection | None = None
        self._pieces: list[bytes] = []
        self._size = 0

    @property
    def answer(self) -> bytes:
        """The body, as far as it has come."""
        return b"".join(self._pieces)

    def connected(self, connection: UpstreamConnection, /) -> None:
        """See `Receiver`."""
        if self.relay.leg is self:
            self._connection = connection
        else:
            connection.abort()  # it was given up while the connection was made

    def head(self, head: ResponseHead, framing: int, length: int, /) -> bool:
        """See `Receiver`; the body comes without chunk framing."""
        self.status = head.status
        return True

    def data(self, piece: bytes, safe: int, now: float, /) -> None:
        """Keep a piece of the body. With SGLang only the end of it is of use."""
        self._pieces.append(piece)
        self._size += len(piece)
        if self._size > MAX_ANSWER:
            self.abort()
            self.failed(BadAnswer(f"Pod {self.placement.pod.id} answered a prefill with over {MAX_ANSWER} bytes."))

    def end(self) -> None:
        """The prompt is computed, or the pod refused it."""
        self._connection = None
        self._owner.prefilled(self)

    def failed(self, failure: PodFailure, /) -> None:
        """See `Receiver`."""
        self._connection = None
        self._owner.prefill_failed(self, failure)

    def abort(self) -> None:
        """Close the connection, so that the pod stops."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.abort()


class PairRelay(Relay):
    """The decode pod's attempt, with the prefill pod's request beside it while that is under way."""

    __slots__ = ("leg", "owner", "pair", "receiver")

    def __init__(self, owner: PairStage, exchange: Exchange, pair: PairPlacement) -> None:
        super().__init__(owner, exchange, pair)
        self.owner = owner
        self.pair = pair
        self.leg: PrefillLeg | None = None
        self.receiver: Receiver = self
        """Gets the decode pod's answer."""

    def end(self) -> None:
        """See `Relay`."""
        self.owner.drop(self)
        super().end()

    def failed(self, failure: PodFailure) -> None:
        """See `Relay`."""
        self.owner.drop(self)
        super().failed(failure)

    def cancel(self) -> None:
        """See `Relay`."""
        self.owner.drop(self)
        super().cancel()

    def discard(self) -> None:
        """See `Relay`."""
        self.owner.drop(self)
        super().discard()


class PairStage:
    """Sends the requests of two pods: the `PairSender` of the attempts, and the `RelayListener` of such relays."""

    def __init__(self, deps: GatewayDeps, attempts: Attempts, completion: Completion) -> None:
        """`deps.dispatch` is a `PairDispatch`."""
        assert isinstance(deps.dispatch, PairDispatch)
        self._dispatch = deps.dispatch
        self._attempts = attempts
        self._completion = completion
        self._clock = deps.clock
        self._view = deps.view
        self._upstream = deps.upstream
        self._identity = deps.identity
        self._timeouts = deps.routes.timeouts
        self._metrics = deps.metrics
        self._outcome = deps.outcome
        self._unsettled = deps.unsettled
        self._learn = deps.learn
        self._shares = deps.shares
        self._legs: set[PrefillLeg] = set()

    def takes(self, exchange: Exchange, placement: Placement, /, *, fresh: bool) -> bool:
        """See `PairSender`."""
        pair, pool = isinstance(placement, PairPlacement), exchange.routed.pool
        if exchange.attempts == 1 and not exchange.stale_tries and pool in self._dispatch.splits:
            self._metrics.count_split(pool, "pair" if pair else "alone")
        if not isinstance(placement, PairPlacement):
            return False
        relay = exchange.relay = PairRelay(self, exchange, placement)
        tap = self._attempts.tap
        relay.receiver = relay if tap is None else tap(exchange, relay)
        if placement.transferred:  # a kept-alive connection was closed, and the decode pod has not seen the request
            self._decode(relay, placement.transferred, fresh=fresh)
            return True
        self._dispatch.renew(placement)
        self._prefill(relay, fresh=fresh)
        if placement.split.sglang:
            self._decode(relay, placement.bodies.decode, fresh=fresh)
        return True

    def pods_gone(self, failing: AbstractSet[PodId], /) -> None:
        """See `PairSender`."""
        for leg in [each for each in self._legs if each.placement.pod.id in failing]:
            leg.abort()
            self._failed(leg, PodGone(f"Pod {leg.placement.pod.id} fails its probes.", retry_after_s=1.0), None)

    # Sending

    def _prefill(self, relay: PairRelay, *, fresh: bool) -> None:
        exchange, pair = relay.exchange, relay.pair
        pod, pool = pair.prefill.pod, pair.split.prefill_pool
        payload = self._identity.request_as(exchange, pod, pool, pair.bodies.prefill)
        self._attempts.begun(exchange, relay, payload)
        leg = relay.leg = PrefillLeg(self, relay, pair.prefill, relay.sent_at)
        self._legs.add(leg)
        timeouts, limit_s = self._timeouts[pool], pair.split.settings.prefill_timeout_s
        if limit_s:
            timeouts = msgspec.structs.replace(timeouts, first_byte_s=limit_s)
        self._upstream.send(pod.address, payload, leg, timeouts, head_only=False, fresh=fresh, pool=pool)

    def _decode(self, relay: PairRelay, body: bytes, *, fresh: bool) -> None:
        exchange = relay.exchange
        payload = self._identity.request_as(exchange, relay.pair.pod, exchange.routed.pool, body)
        relay.sent_at = self._clock()
        self._attempts.transmit(exchange, relay, relay.receiver, payload, fresh=fresh)

    def drop(self, relay: PairRelay) -> None:
        """The relay needs its prefill pod no longer: stop it if it is still at work, and give its charge back."""
        leg, relay.leg = relay.leg, None
        if leg is not None:
            self._legs.discard(leg)
            leg.abort()
            self._view.release(leg.placement.charge)

    # What the prefill pod answers

    def prefilled(self, leg: PrefillLeg) -> None:
        """The prefill pod's answer is whole."""
        relay = leg.relay
        if relay.leg is not leg:
            return
        pod, outcome = leg.placement.pod.id, STATUSES.get(leg.status)
        if outcome is not None:
            self._failed(leg, PodRefused(f"Pod answered {leg.status}."), outcome)
            return
        if pod in self._unsettled:
            self._outcome(pod, Outcome.OK, self._clock())
        if leg.status == OK:
            self._observe(leg)
        self.drop(relay)
        if relay.pair.split.sglang:
            return
        if leg.status == OK:
            try:
                relay.pair.transferred = with_params(relay.pair.bodies.decode, leg.answer)
            except ValueError:
                pass
            else:
                self._decode(relay, relay.pair.transferred, fresh=False)
                return
        self._alone(relay)  # what is wrong with the request the decode pod says, too

    def prefill_failed(self, leg: PrefillLeg, failure: PodFailure) -> None:
        """There is no answer of the prefill pod."""
        relay, exchange = leg.relay, leg.relay.exchange
        if relay.leg is not leg:
            return
        if isinstance(failure, StaleConnection) and not exchange.stale_tries:
            exchange.stale_tries += 1
            self._upstream.drop_idle(leg.placement.pod.address)
            self._legs.discard(leg)
            self._prefill(relay, fresh=True)
            return
        self._failed(leg, failure, RULES[type(failure)].outcome)

    def _failed(self, leg: PrefillLeg, failure: PodFailure, outcome: Outcome | None) -> None:
        """Another pair gets the request, or the decode pod alone. With SGLang's protocol, a decode pod that answers
        has all it needs, and one that does not yet waits in vain."""
        relay, exchange, pod = leg.relay, leg.relay.exchange, leg.placement.pod.id
        if outcome is not None:
            self._outcome(pod, outcome, self._clock())
        self.drop(relay)
        if relay.begun or exchange.done:
            return
        try:
            if self._attempts.try_again(relay, failure, pod):
                relay.cancel()
            elif not relay.pair.split.sglang:
                self._metrics.count_retry(exchange.routed.pool, failure.reason)
                self._alone(relay)
            else:
                relay.cancel()
                self._completion.refuse(exchange, failure)
        except Exception:  # noqa: BLE001  a defect ends in an answer, never in a client that waits forever
            self._completion.defect(exchange)

    def _alone(self, relay: PairRelay) -> None:
        """The decode pod computes the prompt, too."""
        exchange = relay.exchange
        try:
            placement = self._dispatch.alone(exchange, relay.pair)
        except UnknownPod:
            self._attempts.failed(relay, PodGone(f"Pod {relay.pair.pod.id} is gone.", retry_after_s=1.0))
        else:
            self._attempts.send(exchange, placement, again=True)

    def _observe(self, leg: PrefillLeg) -> None:
        """Learn how long the prefill took, and how much of the prompt was cached."""
        placement, now, answer = leg.placement, self._clock(), leg.answer[-TAIL_BYTES:]
        routed = leg.relay.exchange.routed
        self._view.prefill_done(placement.charge)
        self._view.observe_ttft(placement.pod.id, now - leg.sent_at, placement.charge.expected_s)
        if self._learn is not None and MARK in answer and routed.chain:
            self._learn(routed.call, placement, answer)

    # What the relay reports: as `Attempts` takes it, but the decode pod has computed no prompt

    def answered(self, relay: Relay, status: int) -> bool:
        """See `RelayListener`. A transfer that failed is no fault of the decode pod: another pair gets the request."""
        if status == FAILED_TRANSFER and isinstance(relay, PairRelay):
            failure = PodRefused(f"Pod answered {status}.")
            if self._attempts.try_again(relay, failure, relay.pair.prefill.pod.id):
                relay.discard()
                return False
        return self._attempts.answered(relay, status)

    def holds(self, relay: Relay, head: ResponseHead, framing: int, length: int) -> bool:
        """See `RelayListener`."""
        return self._attempts.holds(relay, head, framing, length)

    def headers(self, relay: Relay, head: ResponseHead) -> list[bytes]:
        """See `RelayListener`; the prefill pod is named, too."""
        lines = self._attempts.headers(relay, head)
        if isinstance(relay, PairRelay):
            lines.append(b"x-turnout-prefill-pod: %b\r\n" % relay.pair.prefill.pod.id.encode())
        return lines

    def first_byte(self, relay: Relay, now: float) -> None:
        """See `RelayListener`."""
        exchange, routed = relay.exchange, relay.exchange.routed
        if isinstance(relay, PairRelay):
            if relay.leg is not None:
                self._view.prefill_done(relay.leg.placement.charge)
            if relay.status == OK:
                self._dispatch.transferred(exchange, relay.pair)
        token = relay.sse and relay.status == OK
        if routed.arm is not None:
            routed.arm.first_byte(routed, now - exchange.arrived, token=token)
        if token:
            routed.metrics.ttft.observe(now - exchange.arrived)
            if self._shares is not None:
                self._shares.first_token(exchange)

    def finished(self, relay: Relay) -> None:
        """See `RelayListener`. What the decode pod reports as cached came from the other pod: nothing is learned."""
        self._completion.end(relay.exchange, relay.status)
        relay.exchange.edge.finish(relay.exchange.keep_alive)

    def failed(self, relay: Relay, failure: PodFailure) -> None:
        """See `RelayListener`."""
        self._attempts.failed(relay, failure)
