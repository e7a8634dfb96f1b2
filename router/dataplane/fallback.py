"""Where a request goes that its own pool cannot serve: to that pool's fall-backs, in their order, each tried once.

Replaces the exchange's `RoutedRequest`; `place` finds out whether the other pool has room. A request that its own pool
serves does not pass this file.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from router.dataplane.completion import CLIENT_LEFT
from router.dataplane.deps import GatewayDeps
from router.dataplane.exchange import FAILED, NO_POD, REASON_WORDS, SATURATED, Exchange, FallbackState, RoutedRequest
from router.dataplane.http.deadlines import NEVER
from router.dataplane.request.routes import Route
from router.dataplane.request.targets import may_fall_back
from router.dataplane.routing import Routing
from router.errors import NoPodAvailable

LOG_EVERY_S = 60.0
"""Seconds between two log lines for the same two pools and reason."""

_log = logging.getLogger("turnout.fallback")


class Fallbacks:
    """Moves exchanges to other pools."""

    def __init__(self, deps: GatewayDeps, routing: Routing, place: Callable[[Exchange], bool]) -> None:
        """`place` sends an exchange to a pod of the pool in its `routed`. It returns False when that pool is saturated
        and raises NoPodAvailable when none of its pods can be used."""
        self._routes = deps.routes
        self._targets = deps.targets
        self._metrics = deps.metrics
        self._clock = deps.clock
        self._routing = routing
        self._place = place
        self._logged: dict[tuple[str, str, str], float] = {}
        """(from, to, reason) -> when the next line may be logged."""

    def take(self, exchange: Exchange, why: str) -> bool:
        """Send the exchange, which its pool does not serve because of `why`, to the first fall-back that serves it.

        `why` is `NO_POD`, `SATURATED` or `FAILED`. False when no fall-back serves it, none is configured or the client
        refuses one; then the exchange is in its pool as before.
        """
        ways = self._ways(exchange)
        state = exchange.fallback_state
        if state is None:
            return False
        state.tried[exchange.routed.pool] = why
        for route in ways:
            if self._enter(exchange, route, state):
                self._note(exchange, state.home.pool, why)
                return True
        return False

    def due_s(self, exchange: Exchange) -> float:
        """Seconds that the exchange waits for its saturated pool before a fall-back is tried; `NEVER` without one."""
        return self._routes.every[exchange.routed.pool].fallback_after_s if self._ways(exchange) else NEVER

    def pools(self, exchange: Exchange) -> list[str]:
        """The pools that may still take the exchange, in order."""
        return [route.pool for route in self._ways(exchange)]

    def _ways(self, exchange: Exchange) -> list[Route]:
        """The routes that are left. Makes the `fallback_state` of an exchange that has any; others stay without."""
        routes, header_map, state = self._routing.seen_by(exchange.tenant), exchange.header_map, exchange.fallback_state
        routed = exchange.routed
        if routed.pins is not None:
            return []  # what it needs is on its own pod
        if routed.movable is not None and routed.movable.goes_on:
            return []  # its client has the beginning of the answer, and another pool would begin anew
        cluster = None if b"x-turnout-pool" in header_map else header_map.get(b"x-turnout-cluster")
        home = Route(routed.pool, routed.call.model) if state is None else state.home
        if cluster is None and not routes.every[home.pool].fallback:
            return []
        allowed = self._targets.allowed(header_map, exchange.tenant) if cluster is not None else None
        ways = routes.onward(exchange.model, home, cluster, allowed)
        if state is None:
            if not ways:
                return []
            state = exchange.fallback_state = FallbackState(home, refused=not may_fall_back(header_map))
        if state.refused:
            return []
        # A pool whose pods failed the request is not tried again; one that had no room may be.
        return [way for way in ways if way.pool != routed.pool and state.tried.get(way.pool) != FAILED]

    def _enter(self, exchange: Exchange, route: Route, state: FallbackState) -> bool:
        """Try one pool. `exchange.tried` keeps the pods that failed, and the deadline is not extended."""
        before, target = exchange.routed, exchange.target
        body = before.body if before.movable is None else before.movable.original()
        routed = self._routing.routed_to(exchange, route, before.call, body, before.deadline)
        exchange.routed = routed
        try:
            if self._place(exchange):
                self._leaves(before)
                return True
            state.tried[route.pool] = SATURATED
        except NoPodAvailable:
            state.tried[route.pool] = NO_POD
        self._leaves(routed)
        exchange.routed, exchange.target = before, target  # a query names the model as its pool's pods call it
        return False

    def _leaves(self, routed: RoutedRequest) -> None:
        """An arm of the pool that does not serve the request waits for it no longer."""
        if routed.arm is not None:
            routed.arm.ends(routed, CLIENT_LEFT, self._clock())

    def _note(self, exchange: Exchange, home: str, why: str) -> None:
        """Count and log that another pool has the exchange, and apply that pool's deadline."""
        pool = exchange.routed.pool
        exchange.edge.expires_at = exchange.deadline or NEVER
        self._metrics.count_fallback(home, pool, why)
        key, now = (home, pool, why), self._clock()
        if now >= self._logged.get(key, 0.0):
            self._logged[key] = now + LOG_EVERY_S
            _log.warning("pool %s %s: requests go to its fall-back %s", home, REASON_WORDS[why], pool)
