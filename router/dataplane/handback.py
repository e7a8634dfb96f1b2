"""Stage 7b: the requests of a pod that is gone by its probes. They wait for a byte that never comes, so they move on as
if the pod had refused them. Knows which requests these are, not how a pod is probed.

No attempt and no retry is charged for the move: the pod does no work any more, so nothing is done twice. What cannot
move, as its answer has begun or no other pod takes it, ends if the pod stays silent and away.
"""

from __future__ import annotations

import asyncio
from collections.abc import Set as AbstractSet
from typing import Final

from router.dataplane.attempt import Attempts
from router.dataplane.completion import Completion
from router.dataplane.deps import GatewayDeps
from router.dataplane.exchange import NO_POD, AnswerRelay, Exchange, Placement
from router.dataplane.queue import RequestQueue
from router.dataplane.relay import Relay
from router.errors import NoPodAvailable, PodGone, Saturated
from schedulers.types import PodId
from statesync.errors import UnknownPod

SILENT_S: Final = 120.0
"""Seconds in which a pod that fails its probes may be silent before its answers are ended: those that have begun, and
those that no other pod can give."""

MOVABLE_SILENT_S: Final = 10.0
"""The same for a begun stream that can go on on another pod."""

PROBE: Final = "probe"
"""Why a pod is kept in the rotation although it fails: see `HealthTracker`."""


class HandBack:
    """Takes requests back from pods that are gone."""

    def __init__(self, deps: GatewayDeps, attempts: Attempts, queue: RequestQueue, completion: Completion) -> None:
        self._active = deps.admission.active
        self._view = deps.view
        self._metrics = deps.metrics
        self._attempts = attempts
        self._queue = queue
        self._completion = completion
        self._clock = deps.clock
        self._patience_s = deps.settings.limits.queue_timeout_s
        """How long a stream that could move stays with its silent pod where no other pod is well."""
        self._watched: set[Relay] = set()
        """Those with a timer: a pod that comes and goes gives an answer no second one."""

    def pods_gone(self, failing: AbstractSet[PodId]) -> None:
        """Move every request on that these pods have and whose client has no byte of an answer yet. They are all pods
        of a pool that fail their probes, those too that are in the rotation only because too few others are left. No
        request moves to one of them: if all of a pool's probes fail, every request stays where it is."""
        if self._attempts.pairs is not None:
            self._attempts.pairs.pods_gone(failing)
        for exchange in list(self._active):
            placement, relay = exchange.placement, exchange.relay
            if placement is None or relay is None or placement.pod.id not in failing or exchange.done:
                continue
            try:
                if (
                    relay.begun
                    or self._attempts.only_once(exchange)
                    or not self._move(exchange, placement, relay, failing)
                ):
                    self._watch(exchange, relay)
            except Exception:  # noqa: BLE001  a defect ends in an answer, never in a client that waits forever
                self._completion.defect(exchange)

    def _watch(self, exchange: Exchange, relay: AnswerRelay) -> None:
        """Look at an exchange that stays with the pod once more later."""
        if isinstance(relay, Relay) and relay not in self._watched:
            self._watched.add(relay)
            silent_s = MOVABLE_SILENT_S if _can_move(exchange, relay) else SILENT_S
            asyncio.get_running_loop().call_later(silent_s, self._look, exchange, relay, relay.last_at, silent_s)

    def _look(self, exchange: Exchange, relay: Relay, last_at: float, silent_s: float) -> None:
        """End an answer of which nothing came since `last_at`, if the pod still fails its probes."""
        self._watched.discard(relay)
        pod = relay.placement.pod.id
        if exchange.done or exchange.queued or exchange.relay is not relay or not self._fails(pod):
            return  # a stream that waits for its next pod keeps the relay of the last one
        if relay.last_at != last_at or not exchange.edge.writable:  # a slow client stops the reading from its pod
            self._watch(exchange, relay)
            return
        if silent_s < SILENT_S:
            silent = self._clock() - last_at
            if not _can_move(exchange, relay) or (silent < self._patience_s and not self._others(exchange)):
                self._watch(exchange, relay)
                return
            relay.cancel()
            gone = PodGone(f"Pod {pod} fails its probes and sent nothing for {silent:.0f} s.")
            self._attempts.failed(relay, gone)
            return
        message = f"Pod {pod} fails its probes and sent nothing for {SILENT_S:g} s."
        self._completion.give_up(exchange, PodGone(message, retry_after_s=1.0))

    def _others(self, exchange: Exchange) -> bool:
        """Whether a pod that is well could go on with the exchange."""
        statuses = self._view.statuses(exchange.routed.pool)
        return any(not each.blockers and PROBE not in each.kept for each in statuses)

    def _fails(self, pod: PodId) -> bool:
        try:
            status = self._view.status(pod)
        except UnknownPod:
            return True  # it left while it failed
        return PROBE in status.blockers or PROBE in status.kept

    def _move(self, exchange: Exchange, placement: Placement, relay: AnswerRelay, failing: AbstractSet[PodId]) -> bool:
        """Place the exchange on another pod or queue it. False if there is neither: it stays where it is, for the pod
        may answer yet."""
        before, tried = exchange.routed, exchange.tried
        exchange.tried = tried | failing
        moved = self._moved(exchange)
        exchange.tried = tried  # it did not fail there: it may come back once that pod is well again
        if not moved:
            return False
        relay.cancel()
        self._view.release(placement.charge)
        if exchange.queued:
            exchange.placement = exchange.relay = None
        before.attempts -= 1
        self._metrics.count_retry(before.pool, PodGone.reason)
        return True

    def _moved(self, exchange: Exchange) -> bool:
        try:
            if not self._attempts.place(exchange):
                self._queue.enter(exchange)
        except NoPodAvailable:
            return self._attempts.fallbacks.take(exchange, NO_POD)
        except Saturated:
            return False
        return True


def _can_move(exchange: Exchange, relay: AnswerRelay) -> bool:
    movable = exchange.routed.movable
    return relay.begun and movable is not None and movable.can_move
