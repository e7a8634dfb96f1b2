"""Stage 2: what a request asks for, which pool gets it, and under which model name. Decides from headers, body and
settings; knows no pod and no load.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from router.access.tenants import EVERYTHING, Tenant
from router.dataplane.deps import GatewayDeps
from router.dataplane.exchange import Exchange, RoutedRequest
from router.dataplane.http.deadlines import NEVER
from router.dataplane.request import openai
from router.dataplane.request.adapters import check_adapters
from router.dataplane.request.cache_salt import salted
from router.dataplane.request.openai import Call
from router.dataplane.request.paths import INFERENCE_PATHS
from router.dataplane.request.routes import Route, Routes
from router.dataplane.request.slo import asked_slo, pool_slos
from router.dataplane.request.tenant_headers import as_permitted
from router.dataplane.request.tenant_routes import VisibleRoutes, check_upgrade
from router.errors import BadRequest, ModelNotFound, ModelNotListed, UnsupportedEncoding
from schedulers.types import NO_SLO


class Routing:
    """Finds the pool of a request."""

    def __init__(self, deps: GatewayDeps) -> None:
        self._routes = deps.routes
        self._visible = VisibleRoutes(deps.routes)
        self._targets = deps.targets
        self._metrics = deps.metrics
        self._slos = pool_slos(deps.settings.pools)
        self.movable: Callable[[Exchange, RoutedRequest], None] | None = None
        """Prepares requests whose streams may be moved; None where no pool does that. See `Mover`."""

    def understand(self, exchange: Exchange, *, looked: bool = False) -> None:
        """Read the body, find its pool and set `routed` and the deadline. Raises GatewayError for a bad request, and
        ModelNotListed where a look at the pods' lists may find the model; `looked`: that was done."""
        routes = self._routes if exchange.tenant is None else self.permitted(exchange, exchange.tenant)
        header_map = exchange.header_map
        if b"content-encoding" in header_map:
            check_encoding(header_map)
        if exchange.body or (exchange.path in INFERENCE_PATHS and not exchange.upgrade):
            call = openai.read(header_map.get(b"content-type", b""), exchange.body)
        else:
            call = openai.of_query(exchange.target)
        exchange.model = call.model
        if b"x-turnout-pool" in header_map or b"x-turnout-cluster" in header_map or b"x-turnout-fallback" in header_map:
            route = self._by_header(routes, call.model, exchange, looked)
        else:
            route = routes.by_model.get(call.model) or self._unlisted(routes, call.model, looked)
        routed = exchange.routed = self.routed_to(exchange, route, call, exchange.body, 0.0)
        exchange.body = b""  # `routed` has it; for an alias it is another copy, and both would be kept to the end
        if b"x-turnout-deadline-ms" in header_map:
            routed.deadline = min(routed.deadline or NEVER, requested_deadline(exchange))
        if routed.deadline:
            exchange.edge.expires_at = routed.deadline

    def permitted(self, exchange: Exchange, tenant: Tenant) -> Routes:
        """The routes that the tenant sees. Its headers that do not count are dropped, and its body is salted. Raises
        PermissionDenied."""
        exchange.header_map = as_permitted(exchange.header_map, tenant)
        if exchange.upgrade:
            check_upgrade(exchange.path, tenant)
        kind = exchange.header_map.get(b"content-type", b"")
        if EVERYTHING not in tenant.models:
            check_adapters(kind, exchange.body)
        if tenant.salted:
            exchange.body = salted(exchange.path, kind, exchange.body, tenant)
        return self._visible.of(tenant)

    def check_model(self, exchange: Exchange, routes: Routes) -> None:
        """Raise ModelNotFound for a body that names a model which its tenant may not use, though what else it names
        decides on the pod. `routes` are those that the tenant sees."""
        if exchange.body and not routes.may_use(""):
            model = openai.read(exchange.header_map.get(b"content-type", b""), exchange.body).model
            if model and not routes.may_use(model):
                routes.resolve(model)

    def seen_by(self, tenant: Tenant | None) -> Routes:
        """The routes that exist for a tenant; all of them without one."""
        return self._visible.of(tenant)

    def _by_header(self, routes: Routes, model: str, exchange: Exchange, looked: bool) -> Route:
        """The route that the headers name."""
        try:
            return self._targets.route(routes, model, exchange.header_map, exchange.tenant)
        except ModelNotFound:
            if not looked and routes.may_learn and routes.may_use(model):
                raise ModelNotListed("", param="model") from None
            raise

    def _unlisted(self, routes: Routes, model: str, looked: bool) -> Route:
        """The route of a model that no pool is known to serve."""
        if model and not looked and routes.may_appear(model):
            raise ModelNotListed("", param="model")
        return routes.resolve(model)

    def routed_to(self, exchange: Exchange, route: Route, call: Call, body: bytes, deadline: float) -> RoutedRequest:
        """The request as the route's pool gets it: with that pool's name of the model and its timeouts. `deadline` is
        on the clock of `Exchange.arrived` (0.0: never); the pool's `total_s` may make it earlier."""
        if route.model != call.model:
            if not body:
                exchange.target = openai.with_query_model(exchange.target, route.model)
            else:
                body = openai.with_model(body, exchange.header_map.get(b"content-type", b""), route.model)
            call = call._replace(model=route.model)
        timeouts = self._routes.timeouts[route.pool]
        if timeouts.total_s:
            deadline = min(deadline or NEVER, exchange.arrived + timeouts.total_s)
        routed = RoutedRequest(route.pool, call, body, timeouts, self._metrics.pool(route.pool), deadline)
        header_map = exchange.header_map
        if b"x-turnout-slo-ttft-ms" in header_map or b"x-turnout-slo-tpot-ms" in header_map:
            routed.slo = asked_slo(header_map, self._slos.get(route.pool, NO_SLO))
        elif self._slos:
            routed.slo = self._slos.get(route.pool)
        if self.movable is not None:
            self.movable(exchange, routed)
        return routed


def check_encoding(header_map: Mapping[bytes, bytes]) -> None:
    """Raise UnsupportedEncoding for a compressed body: what it names could not be read."""
    if header_map.get(b"content-encoding", b"").lower() not in (b"", b"identity"):
        raise UnsupportedEncoding("Send the body uncompressed: its content-encoding is not supported here.")


def requested_deadline(exchange: Exchange) -> float:
    """When the client wants the request to be over, on the clock of `Exchange.arrived`. Raises BadRequest."""
    try:
        within_s = int(exchange.header_map[b"x-turnout-deadline-ms"]) / 1000
    except (ValueError, OverflowError):
        raise BadRequest("The header x-turnout-deadline-ms must be a whole number of milliseconds.") from None
    if within_s <= 0:
        raise BadRequest("The header x-turnout-deadline-ms must be more than 0.")
    return exchange.arrived + within_s
