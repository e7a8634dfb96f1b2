"""`GET /v1/targets`: the pools that a client may name, whether they have room, and, with `?model=`, where a request
with these headers would go. Asks no pod and reserves nothing: what it says may have changed a moment later.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Final
from urllib.parse import parse_qs

from router.dataplane.exchange import Exchange
from router.dataplane.request.routes import Routes
from router.dataplane.request.targets import TargetResolver, may_fall_back
from router.dataplane.request.tenant_routes import VisibleRoutes
from router.errors import GatewayError
from statesync.load.view import LoadView

MOST_NAMES: Final = 1000
"""Models that are named of a pool."""


class TargetList:
    """Makes the bodies of the answers."""

    def __init__(self, routes: Routes, resolver: TargetResolver, view: LoadView) -> None:
        self._visible = VisibleRoutes(routes)
        self._resolver = resolver
        self._view = view

    def body(self, exchange: Exchange) -> dict[str, object]:
        """The answer to this client. Raises BadRequest for a header that cannot be read."""
        routes = self._visible.of(exchange.tenant)
        may = self._resolver.allowed(exchange.header_map, exchange.tenant)
        names = defaultdict[str, list[str]](list)
        for name, route in routes.by_model.items():
            names[route.pool].append(name)
        # A pool to which a model leads by itself may always be named.
        targets = [
            self._target(routes, pool.name, names[pool.name])
            for pool in routes.pools.values()
            if names[pool.name] or may(pool)
        ]
        said: dict[str, object] = {"object": "list", "data": targets}
        asked = parse_qs(exchange.target.partition(b"?")[2].decode("latin-1")).get("model")
        if asked:
            said["request"] = self._request(exchange, routes, asked[0])
        return said

    def _target(self, routes: Routes, pool: str, models: list[str]) -> dict[str, object]:
        return {
            "id": pool,
            "object": "target",
            "cluster": routes.clusters[pool] or None,
            "models": models[:MOST_NAMES],
            **self._room(pool),
            "fallback": [each for each in routes.pools[pool].fallback if each in routes.pools],
        }

    def _room(self, pool: str) -> dict[str, object]:
        """Whether the pool takes a request now: a pod can be used and is not full."""
        pods = [each for each in self._view.statuses(pool) if not each.blockers]
        free = [each for each in pods if each.limit is None or each.load.inflight < each.limit]
        return {"available": bool(free), "pods": len(pods), "pods_with_room": len(free)}

    def _request(self, exchange: Exchange, routes: Routes, model: str) -> dict[str, object]:
        """The dry run: the pool that such a request would go to, and those that would follow, or why it would not."""
        headers, tenant = exchange.header_map, exchange.tenant
        try:
            route = self._resolver.route(routes, model, headers, tenant)
            allowed = self._resolver.allowed(headers, tenant)
            more = routes.onward(model, route, headers.get(b"x-turnout-cluster"), allowed)
            following = more if may_fall_back(headers) else []
        except GatewayError as error:
            return {"model": model, "error": {"code": error.shape.code, "message": error.message}}
        return {
            "model": model,
            "pool": route.pool,
            "cluster": routes.clusters[route.pool] or None,
            **self._room(route.pool),
            "then": [each.pool for each in following],
        }
