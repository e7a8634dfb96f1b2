"""Stage 2a: requests of pools that serve no models (`kind: http`). Finds pool and session by path, header and cookie,
and the time that the request may take. Bodies pass unread.

Where no such pool is configured, this file is not used.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from router.dataplane import upgrade
from router.dataplane.attempt import Attempts
from router.dataplane.deps import GatewayDeps
from router.dataplane.exchange import Exchange
from router.dataplane.http.deadlines import NEVER
from router.dataplane.http.websocket import is_offer
from router.dataplane.request.openai import Call
from router.dataplane.request.path_table import PathTable
from router.dataplane.request.routes import Route
from router.dataplane.request.service_session import SessionPlaces
from router.dataplane.request.tenant_headers import as_permitted
from router.dataplane.request.tenant_routes import may_be_served_by
from router.dataplane.routing import Routing, requested_deadline
from router.errors import UnknownPath
from router.settings import Pool
from schedulers.types import BYTES_PER_TOKEN


class ServicePool:
    """One such pool, as its requests need it."""

    def __init__(self, pool: Pool) -> None:
        self.pool = pool
        self.deadlines = PathTable(pool.service.deadlines_s.items())
        self.sessions = SessionPlaces(pool.service.session)


class ServiceRequests:
    """Takes the requests of these pools."""

    def __init__(
        self,
        deps: GatewayDeps,
        pools: Sequence[Pool],
        routing: Routing,
        attempts: Attempts,
        place: Callable[[Exchange], None],
    ) -> None:
        """`place` takes an exchange through the stages after routing. It may raise GatewayError."""
        self._local = deps.local
        self._admission = deps.admission
        self._routing = routing
        self._budget = attempts.budget
        self._place = place
        services = [ServicePool(pool) for pool in pools]
        self._paths = PathTable((path, service) for service in services for path in service.pool.service.paths)

    def take(self, exchange: Exchange) -> bool:
        """Take over a request whose path belongs to one of the pools; False for any other. Raises GatewayError."""
        path = exchange.path
        found = self._paths.find(path)
        if found is None or self._local.is_open(exchange):
            return False
        service, rest = found
        tenant = exchange.tenant
        if tenant is not None:
            if not may_be_served_by(tenant, service.pool):
                raise UnknownPath(f"Nothing is served under {path[:200].decode('latin-1')}.")
            exchange.header_map = as_permitted(exchange.header_map, tenant)
        if exchange.http11 and is_offer(exchange.method, exchange.header_map):
            upgrade.begin(exchange)
        self._route(exchange, service, service.sessions.find(exchange.kept, rest))
        self._admission.admit(exchange)
        self._budget.requests += 1
        self._place(exchange)
        return True

    def _route(self, exchange: Exchange, service: ServicePool, session: str) -> None:
        """Set the exchange's pool, session and deadline."""
        pool, body = service.pool.name, exchange.body
        call = Call("", (), max(1, len(body) // BYTES_PER_TOKEN), 0, False, session, named=True)
        routed = self._routing.routed_to(exchange, Route(pool, ""), call, body, _deadline(exchange, service))
        if exchange.upgrade:
            routed.deadline = 0.0  # a WebSocket may be open for as long as it likes
        exchange.routed = routed
        exchange.body = b""
        if routed.deadline:
            exchange.edge.expires_at = routed.deadline


def _deadline(exchange: Exchange, service: ServicePool) -> float:
    """When the request must be over by its path and by its client; 0.0 for never."""
    found = service.deadlines.find(exchange.path)
    deadline = exchange.arrived + found[0] if found is not None else NEVER
    if b"x-turnout-deadline-ms" in exchange.header_map:
        deadline = min(deadline, requested_deadline(exchange))
    return deadline if deadline < NEVER else 0.0
