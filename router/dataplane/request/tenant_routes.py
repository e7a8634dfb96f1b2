"""The routes as each tenant sees them: its pools and its models only. What is not in a tenant's routes does not exist
for it, in answers, hints and lists alike. Knows no request and no load.

A tenant's routes are made at its first request and renewed when the models of a pool change. So a request costs one
look-up, however many patterns its tenant has.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from fnmatch import translate
from typing import Final

from router.access.tenants import EVERYTHING, Tenant
from router.dataplane.request.owned_state import named, plain
from router.dataplane.request.routes import Routes, cluster_of
from router.errors import PermissionDenied
from router.settings import Pool, Timeouts

RESPONSES: Final = b"/v1/responses"
_BATCHES: Final = re.compile(rb"/v1/(?:messages/)?batches/*")

MOST_NAMES: Final = 10_000
"""Names of models whose permission is kept, by tenant. A client may invent names, so all are forgotten then."""
KEPT_LENGTH: Final = 256
"""Characters of the longest name that is kept."""


class VisibleRoutes:
    """The routes of all, and those that each tenant sees of them."""

    def __init__(self, routes: Routes) -> None:
        """`routes`: all of them."""
        self._all = routes
        self._by_tenant: dict[Tenant, tuple[int, Routes]] = {}
        """With the version of all routes that they were made of."""

    def of(self, tenant: Tenant | None) -> Routes:
        """What the tenant sees; None sees everything."""
        if tenant is None:
            return self._all
        version, seen = self._by_tenant.get(tenant, (-1, self._all))
        if version != self._all.version:
            if version < 0:
                seen = _seen_by(tenant, self._all)
            else:
                seen.rebuild()
            self._by_tenant[tenant] = self._all.version, seen
        return seen


def may_be_served_by(tenant: Tenant, pool: Pool) -> bool:
    """Whether requests of the tenant may go to the pool."""
    return EVERYTHING in tenant.pools or pool.name in tenant.pools


def check_upgrade(path: bytes, tenant: Tenant) -> None:
    """Raise PermissionDenied for a WebSocket whose messages may name what the tenant has no right to: they are not read
    here, and name models and, in the Responses API, earlier responses. Nor does one lead to what pods keep: an engine
    that has no WebSocket there answers as if none had been asked for."""
    as_read = plain(path)
    if as_read.startswith(RESPONSES):
        raise PermissionDenied("The Responses API is served over HTTP here, not over a WebSocket.")
    if as_read.startswith(b"/v1/") and named(b"GET", as_read, b"", b""):
        raise PermissionDenied("What pods keep is read over HTTP here, not over a WebSocket.")
    if EVERYTHING not in tenant.models:
        raise PermissionDenied("This key may use some models only, and the messages of a WebSocket may name any.")


def check_batch(method: bytes, path: bytes, tenant: Tenant) -> None:
    """Raise PermissionDenied for a new batch of a tenant that may not use all models, whatever model its body names:
    each request of a batch names its own. `path` is as engines read it."""
    if EVERYTHING not in tenant.models and method == b"POST" and _BATCHES.fullmatch(path):
        raise PermissionDenied("This key may use some models only, and the requests of a batch may name any.")


def _seen_by(tenant: Tenant, routes: Routes) -> Routes:
    pools = [pool for pool in routes.every.values() if may_be_served_by(tenant, pool)]
    home = tenant.default_pool
    # The first pool that serves a model gets its requests.
    pools.sort(key=lambda pool: not home or home not in (pool.name, cluster_of(pool)))
    names = [pool.name for pool in pools]
    default = home if home in names else routes.default_pool if routes.default_pool in names else ""
    return Routes(pools, default, Timeouts(), lists_of=routes, may_use=model_permission(tenant.models))


def model_permission(patterns: Collection[str]) -> Callable[[str], bool] | None:
    """Whether a name matches one of the patterns; None where every name does. A request that names no model may get any
    model of a pod, so that only `*` permits it."""
    if EVERYTHING in patterns:
        return None
    matches = re.compile("|".join(map(translate, patterns)) or r"(?!)").match
    known: dict[str, bool] = {"": False}

    def permitted(model: str) -> bool:
        found = known.get(model)
        if found is None:
            found = matches(model) is not None
            if len(known) > MOST_NAMES:
                known.clear()
                known[""] = False
            if len(model) <= KEPT_LENGTH:
                known[model] = found
        return found

    return permitted
