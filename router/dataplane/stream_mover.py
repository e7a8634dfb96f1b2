"""Stage 7c: streams that go on on another pod, where `failover.mid_stream` is on. Chooses that pod by the pool's
policy, with the text so far as part of the prompt, and hands the client's stream over to its relay. A stream for which
no pod has room waits in the pool's queue. Whole answers of such pools are held, so that they can begin anew.

No retry is charged: what is left of an answer would have been made in any case. `failover.max_moves` bounds what one
request can do to its pods.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Protocol

from router.dataplane.deps import GatewayDeps
from router.dataplane.exchange import Exchange, Placement, RoutedRequest
from router.dataplane.failover.continuation import Continuation, opened
from router.dataplane.failover.reasons import NO_POD, NotMoved
from router.dataplane.failover.stream import FixedStream, MovableStream
from router.dataplane.movable_relay import HeldRelay, MovableRelay
from router.dataplane.relay import Relay, RelayListener
from router.dataplane.request import openai
from router.dataplane.retry import UNSENT
from router.errors import DrainTimeout, FirstByteTimeout, GatewayError, PodFailure, StaleConnection, TotalTimeout
from schedulers.types import Rejection
from statesync.errors import NoRoutablePod, PoolSaturated

VLLM: Final = "vllm"
"""The engine that says which tokens it has, and goes on with them."""

_TIMES: Final = (TotalTimeout, DrainTimeout, FirstByteTimeout)
"""Time-outs that are not a pod's death."""


class Sender(Protocol):
    """Sends exchanges to pods: `Attempts`."""

    wait_again: Callable[[Exchange], bool] | None
    """Queues an exchange; False where it cannot wait."""

    def send(self, exchange: Exchange, placement: Placement, /, *, fresh: bool = False) -> None:
        """Send to the pod of the placement. `fresh`: over a new connection."""


class StreamMover:
    """Moves streams. The `Mover` of `Attempts`."""

    def __init__(self, deps: GatewayDeps, attempts: Sender) -> None:
        self._pools = {pool.name: pool for pool in deps.settings.pools if pool.failover.mid_stream}
        self._dispatch = deps.dispatch
        self._view = deps.view
        self._metrics = deps.metrics
        self._attempts = attempts

    def prepare(self, exchange: Exchange, routed: RoutedRequest) -> None:
        """Make a request one whose answer can be moved, or begin anew, if its pool wants that."""
        pool = self._pools.get(routed.pool)
        if pool is None or exchange.upgrade:
            return
        if not routed.call.stream:
            routed.movable = FixedStream(routed.body, NotMoved("size"), pool.failover.max_chars)
            return
        ids = pool.engine == VLLM
        made = opened(exchange.path, routed.body, ids=ids)
        if isinstance(made, NotMoved):
            routed.movable = FixedStream(routed.body, made)
        else:
            routed.movable = MovableStream(exchange.path, made, pool.failover.max_chars, ids=ids)
            routed.body = made.body

    def relay(self, listener: RelayListener, exchange: Exchange, placement: Placement, /) -> Relay:
        """The relay of an attempt; it takes over where the client has part of the answer."""
        stream, before = exchange.routed.movable, exchange.relay
        if isinstance(stream, FixedStream) and stream.held_bytes:
            return HeldRelay(listener, exchange, placement, stream.held_bytes)
        if not isinstance(stream, MovableStream):
            return Relay(listener, exchange, placement)
        first = before if isinstance(before, MovableRelay) and before.begun else None
        return MovableRelay(listener, exchange, placement, stream, first)

    def moved(self, relay: Relay, failure: PodFailure, /) -> bool:
        """Let another pod go on with the answer of a relay that failed, or end an answer whose text is complete. If
        neither can be, the message of the failure says why."""
        if isinstance(relay, MovableRelay) and relay.complete():
            return True
        pool = relay.exchange.routed.pool
        why = self._move(relay, failure)
        if why is not None:
            self._metrics.count_move(pool, why.reason)
            failure.message += why.words
        return why is None

    def _move(self, relay: Relay, failure: PodFailure) -> NotMoved | None:
        exchange = relay.exchange
        routed = exchange.routed
        stream = routed.movable
        if isinstance(stream, FixedStream):
            return stream.why
        if not isinstance(stream, MovableStream) or not isinstance(relay, MovableRelay) or not relay.readable:
            return NotMoved("events")
        if isinstance(failure, _TIMES):
            return NotMoved("time")
        if routed.pins is not None or exchange.refs is not None:
            return NotMoved("pinned")
        if stream.attempts >= self._pools[routed.pool].failover.max_moves:
            return NotMoved("attempts")
        made = stream.next_request()
        if isinstance(made, NotMoved):
            return made
        if type(failure) not in UNSENT:  # else the next pod has not even seen it
            stream.attempts += 1
        if isinstance(failure, StaleConnection):  # the next pod had closed its idle connection; it did nothing
            self._attempts.send(exchange, relay.placement, fresh=True)
            return None
        placement = self._place(exchange, relay, made)
        if not stream.splice.waits:
            exchange.wait_until = 0.0  # the wait before its first pod is over
        stream.splice.go_on(made.owed, made.ids, made.behind)
        if placement is None:
            return self._wait(relay)
        self._view.release(relay.placement.charge)
        exchange.attempts += 1
        routed.attempts += 1
        self._attempts.send(exchange, placement)
        return None

    def _wait(self, relay: Relay) -> NotMoved | None:
        """Queue a stream for which no other pod has room. The relay stays, for what the client has is known there."""
        exchange, wait = relay.exchange, self._attempts.wait_again
        if wait is None or not wait(exchange):
            return NotMoved(NO_POD)
        exchange.placement = None
        self._view.release(relay.placement.charge)
        return None

    def _place(self, exchange: Exchange, relay: Relay, made: Continuation) -> Placement | None:
        """Choose the next pod for a request that has the text so far in its prompt; None without any."""
        routed = exchange.routed
        exchange.tried |= self._dispatch.together(relay.placement.pod.id)
        routed.body = made.body
        routed.call = openai.read(exchange.header_map.get(b"content-type", b""), made.body)
        routed.info, routed.chain = None, ()
        try:
            placed = self._dispatch.place(exchange, self._pools[routed.pool])
        except (PoolSaturated, NoRoutablePod, GatewayError):
            return None
        return None if isinstance(placed, Rejection) else placed
