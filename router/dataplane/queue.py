"""Stage 3b: requests of a saturated pool. Decides when they enter the queue, leave it for a pod or a fall-back, or are
refused. `admission.py` keeps the order of the queue.
"""

from __future__ import annotations

import asyncio
from typing import Final

from router.dataplane.attempt import Attempts
from router.dataplane.completion import Completion
from router.dataplane.deps import GatewayDeps
from router.dataplane.exchange import NO_POD, SATURATED, Exchange
from router.dataplane.http.deadlines import NEVER
from router.errors import DeadlineExceeded, GatewayError, NoPodAvailable, Saturated

LOOK_S: Final = 1.0
"""Seconds between two looks at whether those that wait can still be served in time."""

AGAIN_S: Final = 1.0
"""Seconds after which a pod that failed a request which waits is tried again."""


class RequestQueue:
    """The requests that wait for room."""

    def __init__(self, deps: GatewayDeps, attempts: Attempts, completion: Completion) -> None:
        self._deps = deps
        self._admission = deps.admission
        self._attempts = attempts
        self._fallbacks = attempts.fallbacks
        self._completion = completion
        self._looks = False
        """Whether the next look is due."""
        attempts.wait_again = self.wait_again
        if deps.shares is not None:
            deps.shares.on_room = self.on_headroom

    def enter(self, exchange: Exchange) -> None:
        """Queue the exchange, whose pool is saturated, for the pool's pods and, once `fallback_after_s` is over, for
        those of its fall-backs.

        A fall-back that may be tried at once and has room takes it instead. Raises Saturated when too many wait.
        """
        fall_back_after_s = self._fallbacks.due_s(exchange)
        if not fall_back_after_s and self._fallbacks.take(exchange, SATURATED):
            return
        now = self._deps.clock()
        until = min(exchange.deadline or NEVER, now + self._deps.settings.limits.queue_timeout_s)
        also = () if fall_back_after_s else self._fallbacks.pools(exchange)
        try:
            # How long it would wait says little where another pool may take it meanwhile, or its own pod is away.
            known = fall_back_after_s == NEVER and not exchange.routed.waits
            self._admission.wait(exchange, also, until if known else NEVER)
        except Saturated:
            if not fall_back_after_s or not self._fallbacks.take(exchange, SATURATED):
                raise
            return
        exchange.wait_until = until
        exchange.edge.expires_at = min(until, now + (fall_back_after_s or NEVER))
        self._look_soon()

    def line_up(self, exchange: Exchange) -> bool:
        """Queue the exchange of a tenant behind those that wait for its pool already, if any do: without that, a tenant
        that sends more often than others would find more of the places that were just left. And where its tenant has
        more than its share, so that others find a place at once. Those that wait for a pool's first pod are lined up by
        `hold`."""
        if exchange.tenant is None or not self._admission.lines_up(exchange, exchange.tenant):
            return False
        if self._awaits_first_pod(exchange):
            return False
        self._deps.dispatch.session(exchange)  # makes what policies see of it: its priority orders the queue
        self.enter(exchange)
        if self._deps.view.room(exchange.routed.pool)[0]:  # for its model, or for its tenant, only
            self.on_headroom(exchange.routed.pool)
        return True

    def hold(self, exchange: Exchange) -> bool:
        """Queue the exchange for the first pod of its pool, which has none that can be used. False where the pool does
        not wait for one. Raises Saturated when too many wait."""
        if not self._awaits_first_pod(exchange):
            return False
        self._admission.wait(exchange)
        within_s = self._deps.routes.every[exchange.routed.pool].scale_from_zero_s
        exchange.wait_until = min(exchange.deadline or NEVER, self._deps.clock() + within_s)
        exchange.edge.expires_at = exchange.wait_until
        self._look_soon()
        return True

    def _look_soon(self) -> None:
        if not self._looks:
            self._looks = True
            asyncio.get_running_loop().call_later(LOOK_S, self._look)

    def _look(self) -> None:
        """Refuse those that wait and will not be served in time, as the pool has become slower. Where another pool may
        take a request meanwhile, or it waits for its own pod to come back, that speed says little."""
        self._looks = False
        for name, pool in self._deps.routes.every.items():
            if pool.scale_from_zero_s and not self._has_pod(name):
                self._admission.forget_speed(name)
        for exchange, error in self._admission.late():
            if self._fallbacks.due_s(exchange) == NEVER and not exchange.routed.waits:
                self._completion.refuse(exchange, error)
        if self._admission.queued:
            self._look_soon()

    def _awaits_first_pod(self, exchange: Exchange) -> bool:
        """Whether the pool has no pod that can be used, and its requests wait for one."""
        pool = exchange.routed.pool
        return bool(self._deps.routes.every[pool].scale_from_zero_s) and not self._has_pod(pool)

    def _has_pod(self, pool: str) -> bool:
        return any(status.routable for status in self._deps.view.statuses(pool))

    def wait_again(self, exchange: Exchange) -> bool:
        """Queue an exchange that a pod failed, and allow that pod again soon: it may restart before its health says
        that it is gone. False once `wait_until` has passed, or if too many wait."""
        now = self._deps.clock()
        until = exchange.wait_until or min(exchange.deadline or NEVER, now + self._deps.settings.limits.queue_timeout_s)
        if now >= until:
            return False
        try:
            self._admission.wait(exchange)
        except Saturated:
            return False
        exchange.wait_until = until
        if exchange.edge.writable:  # else a client that has part of its answer is to read on before this
            exchange.edge.expires_at = until
        asyncio.get_running_loop().call_later(AGAIN_S, self._again, exchange, exchange.routed.line)
        return True

    def _again(self, exchange: Exchange, line: str) -> None:
        if exchange.queued:
            exchange.tried = frozenset()
        self._serve_line(line)

    def overdue(self, exchange: Exchange, now: float) -> None:
        """A time limit of the queue passed: try a fall-back, wait on until `wait_until`, or refuse the request."""
        late = exchange.deadline and now >= exchange.deadline
        try:
            if not late and self._fall_back(exchange):
                return
        except Exception:  # noqa: BLE001  a defect ends in an answer, never in a client that waits forever
            self._completion.defect(exchange)
            return
        if now < exchange.wait_until:
            self._admission.join(exchange, self._fallbacks.pools(exchange))
            exchange.edge.expires_at = exchange.wait_until
            return
        self._completion.refuse(exchange, self._too_late(exchange, late=bool(late)))

    def _too_late(self, exchange: Exchange, *, late: bool) -> GatewayError:
        """Why the exchange is refused after its wait. `late`: its deadline passed."""
        pool, retry_after_s = exchange.routed.pool, self._admission.drained_s(exchange)
        if self._awaits_first_pod(exchange):
            return NoPodAvailable(f"No pod of pool {pool!r} came in time.", retry_after_s=retry_after_s)
        kind = DeadlineExceeded if late else Saturated
        return kind(f"No pod of pool {pool!r} had room in time.", retry_after_s=retry_after_s)

    def _fall_back(self, exchange: Exchange) -> bool:
        """Move the exchange to a fall-back that has room. False when there is none; then it stays in the queue."""
        self._admission.step_out(exchange)
        if self._fallbacks.take(exchange, SATURATED):
            return True
        self._admission.step_back(exchange)
        return False

    def on_headroom(self, pool: str) -> None:
        """A pod of `pool` has room again: serve the queue in the next turn of the loop, after the caller is done."""
        if self._admission.queued:
            asyncio.get_running_loop().call_soon(self._serve, pool)

    def _serve(self, pool: str) -> None:
        mixed = pool in self._deps.view.mixed
        for line in self._admission.lines(pool):
            self._serve_line(line, mixed=mixed)

    def _serve_line(self, line: str, *, mixed: bool = False) -> None:
        self._admission.serve(line, lambda exchange: self._try(exchange, line), mixed=mixed)

    def _try(self, exchange: Exchange, pool: str) -> bool:
        """Try to place the exchange in `pool`, which had room. False when it has no more."""
        try:
            return self._place(exchange, pool)
        except GatewayError as error:
            self._completion.refuse(exchange, error)
        except Exception:  # noqa: BLE001  a defect ends in an answer, never in a client that waits forever
            self._completion.defect(exchange)
        return True

    def _place(self, exchange: Exchange, pool: str) -> bool:
        line = exchange.routed.line
        try:
            if self._attempts.place(exchange):
                if exchange.edge.writable:
                    exchange.edge.expires_at = exchange.deadline or NEVER
                return True
        except NoPodAvailable:
            if self._fallbacks.take(exchange, NO_POD):
                return True
            if self._awaits_first_pod(exchange) or exchange.relay is not None:
                return False  # a stream goes on waiting for its next pod
            raise
        if exchange.routed.line != line:  # its session has another own pod by now, which has no room either
            self._admission.step_back(exchange)
            self._admission.join(exchange, (exchange.routed.line,))
            return True
        if pool == line:
            return False
        if self._fallbacks.take(exchange, SATURATED):
            return True
        if exchange.fallback_state is not None and exchange.fallback_state.tried.get(pool) == SATURATED:
            return False
        # The room in `pool` is not for this request: it waits for its own pool, and the ones behind it are tried.
        self._admission.step_back(exchange)
        return True
