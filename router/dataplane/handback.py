"""Stage 7b: the requests of a pod that is gone by its probes. They wait for a byte that never comes, so they move on as
if the pod had refused them. Knows which requests these are, not how a pod is probed.

No attempt and no retry is charged for the move: the pod does no work any more, so nothing is done twice.
"""

from __future__ import annotations

from router.dataplane.attempt import Attempts
from router.dataplane.completion import Completion
from router.dataplane.deps import GatewayDeps
from router.dataplane.exchange import NO_POD, AnswerRelay, Exchange, Placement
from router.dataplane.queue import RequestQueue
from router.errors import NoPodAvailable, PodGone, Saturated
from schedulers.types import PodId


class HandBack:
    """Takes requests back from pods that are gone."""

    def __init__(self, deps: GatewayDeps, attempts: Attempts, queue: RequestQueue, completion: Completion) -> None:
        self._active = deps.admission.active
        self._view = deps.view
        self._metrics = deps.metrics
        self._attempts = attempts
        self._queue = queue
        self._completion = completion

    def pod_gone(self, pod: PodId) -> None:
        """Move every request on that this pod has and whose client has no byte of an answer yet."""
        for exchange in list(self._active):
            placement, relay = exchange.placement, exchange.relay
            if placement is None or relay is None or placement.pod.id != pod or relay.begun or exchange.done:
                continue
            try:
                self._move(exchange, placement, relay)
            except Exception:  # noqa: BLE001  a defect ends in an answer, never in a client that waits forever
                self._completion.defect(exchange)

    def _move(self, exchange: Exchange, placement: Placement, relay: AnswerRelay) -> None:
        """Place the exchange on another pod or queue it. It stays where it is if there is neither: the pod may answer
        yet."""
        pool = exchange.routed.pool
        exchange.tried |= {placement.pod.id}
        try:
            if not self._attempts.place(exchange):
                self._queue.enter(exchange)
        except NoPodAvailable:
            if not self._attempts.fallbacks.take(exchange, NO_POD):
                return
        except Saturated:
            return
        relay.cancel()
        self._view.release(placement.charge)
        if exchange.queued:
            exchange.placement = exchange.relay = None
        self._metrics.count_retry(pool, PodGone.reason)
