"""Where a request goes that its own pool cannot serve: to that pool's fall-backs, in their order, each tried once.

Knows what of an exchange belongs to a pool, and changes it as one; whether a pod has room there is the gateway's to
find out. A request that is served by its own pool never comes here.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final, NamedTuple

from router.dataplane.deps import GatewayDeps
from router.dataplane.exchange import Exchange
from router.dataplane.http.deadlines import NEVER
from router.dataplane.request import openai
from router.dataplane.request.openai import Call
from router.dataplane.request.routes import Route
from router.dataplane.request.targets import may_fall_back
from router.errors import NoPodAvailable
from router.settings import Timeouts
from router.telemetry.metrics import PoolMetrics
from schedulers.types import RequestInfo

if TYPE_CHECKING:
    from router.trials.arm import Arm

NO_POD: Final = "no_pod"
"""The pool has no pod that can be used, or its policy wants none."""
SATURATED: Final = "saturated"
"""Every pod is at its `max_inflight`."""
FAILED: Final = "failed"
"""Its pods failed the request before the first byte of an answer."""

_WORDS: Final = {NO_POD: "has no pod for it", SATURATED: "is full", FAILED: "failed it"}

TELL_EVERY_S = 60.0
"""One line of log at most so often for the same way and reason."""

_log = logging.getLogger("turnout.detours")


class FallbackState:
    """Where else a request was tried, and why."""

    __slots__ = ("attempts_before", "home", "refused", "tried")

    def __init__(self, home: Route) -> None:
        self.home = home
        """Where it belongs."""
        self.tried: dict[str, str] = {}
        """Pool -> why it did not serve the request: `NO_POD`, `SATURATED`, `FAILED`. The own pool comes first."""
        self.attempts_before = 0
        """Attempts made before it came to the pool where it is."""
        self.refused = False
        """The client wants no fall-back."""

    def told(self, pool: str) -> str:
        """The end of an error message about a request that is in `pool`: which pools were tried."""
        if self.refused:
            return f" The request belongs to pool {self.home.pool!r} and refuses fall-back (x-turnout-fallback)."
        tried = self.tried if pool in self.tried else {**self.tried, pool: FAILED}
        if tried.keys() <= {self.home.pool}:
            return ""
        return f" Pools tried: {', '.join(f'{name!r} {_WORDS[why]}' for name, why in tried.items())}."


class _Stand(NamedTuple):
    """What of an exchange belongs to its pool."""

    pool: str
    metrics: PoolMetrics | None
    timeouts: Timeouts | None
    deadline: float
    body: bytes
    call: Call | None
    info: RequestInfo | None
    chain: Sequence[int]
    arm: Arm | None


class Fallbacks:
    """Moves exchanges to other pools."""

    def __init__(self, parts: GatewayDeps, place: Callable[[Exchange], bool]) -> None:
        """`place` sends an exchange to a pod of the pool it is in: False where that is full, NoPodAvailable where none
        can be used."""
        self._parts = parts
        self._place = place
        self._told: dict[tuple[str, str, str], float] = {}

    def take(self, exchange: Exchange, why: str) -> bool:
        """Its pool does not serve it because of `why`: send it to the first fall-back that does.

        False if none does, none is there or none is wanted; then the exchange is in its pool as before.
        """
        ways = self._ways(exchange)
        fallback_state = exchange.fallback_state
        if fallback_state is None:
            return False
        fallback_state.tried[exchange.pool] = why
        for route in ways:
            if self._enter(exchange, route, fallback_state):
                self._arrived(exchange, fallback_state.home.pool, why)
                return True
        return False

    def due_s(self, exchange: Exchange) -> float:
        """How long the exchange waits for its full pool before a fall-back is tried; `NEVER` where there is none."""
        return self._parts.routes.pools[exchange.pool].fallback_after_s if self._ways(exchange) else NEVER

    def pools(self, exchange: Exchange) -> list[str]:
        """Those that may take it yet."""
        return [route.pool for route in self._ways(exchange)]

    def _ways(self, exchange: Exchange) -> list[Route]:
        """Where it may go yet. Leaves an exchange that never can as it is, without a `fallback_state`."""
        routes, header_map, fallback_state, call = (
            self._parts.routes,
            exchange.header_map,
            exchange.fallback_state,
            exchange.call,
        )
        cluster = None if b"x-turnout-pool" in header_map else header_map.get(b"x-turnout-cluster")
        assert call is not None
        home = Route(exchange.pool, call.model) if fallback_state is None else fallback_state.home
        if cluster is None and not routes.pools[home.pool].fallback:
            return []
        allowed = self._parts.targets.allowed(header_map) if cluster is not None else None
        ways = routes.onward(exchange.asked, home, cluster, allowed)
        if fallback_state is None:
            if not ways:
                return []
            fallback_state = exchange.fallback_state = FallbackState(home)
            fallback_state.refused = not may_fall_back(header_map)
        # A pool that failed it is not asked again; one that had no room may be.
        here, tried = exchange.pool, fallback_state.tried
        return (
            []
            if fallback_state.refused
            else [way for way in ways if way.pool != here and tried.get(way.pool) != FAILED]
        )

    def _enter(self, exchange: Exchange, route: Route, fallback_state: FallbackState) -> bool:
        before = _stand(exchange)
        self._move(exchange, route)
        attempts = exchange.attempts
        try:
            placed = self._place(exchange)
            why = SATURATED
        except NoPodAvailable:
            placed, why = False, NO_POD
        if placed:
            fallback_state.attempts_before = attempts
            return True
        fallback_state.tried[route.pool] = why
        _restore(exchange, before)
        return False

    def _move(self, exchange: Exchange, route: Route) -> None:
        """The new pool's name for the model, its limits and numbers; the time that has passed has passed."""
        parts, call = self._parts, exchange.call
        assert call is not None
        if route.model != call.model:
            exchange.body = openai.with_model(exchange.body, exchange.header_map.get(b"content-type", b""), route.model)
            exchange.call = call._replace(model=route.model)
        timeouts = parts.routes.timeouts[route.pool]
        if timeouts.total_s:
            exchange.deadline = min(exchange.deadline or NEVER, exchange.arrived + timeouts.total_s)
        exchange.pool, exchange.timeouts = route.pool, timeouts
        exchange.metrics = parts.metrics.pool(route.pool)
        # Model and pool are in both: made anew by the dispatch. Pods that failed it stay in `tried`.
        exchange.info, exchange.chain, exchange.arm = None, (), None

    def _arrived(self, exchange: Exchange, home: str, why: str) -> None:
        exchange.edge.expires_at = exchange.deadline or NEVER
        self._parts.metrics.count_fallback(home, exchange.pool, why)
        key, now = (home, exchange.pool, why), self._parts.clock()
        if now >= self._told.get(key, 0.0):
            self._told[key] = now + TELL_EVERY_S
            _log.warning("pool %s %s: requests go to its fall-back %s", home, _WORDS[why], exchange.pool)


def _stand(exchange: Exchange) -> _Stand:
    return _Stand(
        exchange.pool,
        exchange.metrics,
        exchange.timeouts,
        exchange.deadline,
        exchange.body,
        exchange.call,
        exchange.info,
        exchange.chain,
        exchange.arm,
    )


def _restore(exchange: Exchange, stand: _Stand) -> None:
    (
        exchange.pool,
        exchange.metrics,
        exchange.timeouts,
        exchange.deadline,
        exchange.body,
        exchange.call,
        exchange.info,
        exchange.chain,
        exchange.arm,
    ) = stand
