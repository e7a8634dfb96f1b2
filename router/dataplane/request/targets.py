"""Which clients may choose a pool or cluster by header, and which requests refuse a fall-back. Pure: headers and
settings in, answers out. Where `auth` is configured the tenant of a request says what it may choose, else the section
`targets`, which knows a client by the SHA-256 of its key; the key itself is not kept.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from typing import NamedTuple

from router.access.tenants import EVERYTHING, Tenant
from router.dataplane.request.routes import Allowed, Route, Routes, cluster_of
from router.errors import BadRequest, PermissionDenied, PoolNotFound, TargetNotAllowed
from router.settings import Pool, TargetClient
from router.settings import Targets as TargetSettings

_WORDS: Mapping[bytes, bool] = {
    **dict.fromkeys((b"false", b"no", b"off", b"0"), False),
    **dict.fromkeys((b"true", b"yes", b"on", b"1"), True),
}

Headers = Mapping[bytes, bytes]


class ClientPermissions(NamedTuple):
    """The pools and clusters that a client may choose."""

    name: str
    """Empty for a client without a known key."""
    allow: frozenset[str]

    def may(self, pool: Pool) -> bool:
        """Whether the client may choose this pool."""
        return not self.allow.isdisjoint((EVERYTHING, pool.name, cluster_of(pool) or pool.name))


class TargetResolver:
    """Resolves the targets that requests name in headers."""

    def __init__(self, settings: TargetSettings) -> None:
        self._anyone = ClientPermissions("", frozenset(settings.allow))
        self._known = [(bytes.fromhex(each.key_sha256), _client(each)) for each in settings.clients]

    def route(self, routes: Routes, model: str, header_map: Headers, tenant: Tenant | None = None) -> Route:
        """The route of a request with a header about its target; `routes` are those that its tenant sees.

        Raises what `Routes.resolve` raises; a TargetNotAllowed says what the client may choose. A tenant gets a
        PermissionDenied for both what it may not choose and what does not exist, as if they were one.
        """
        may_fall_back(header_map)
        client = self.client(header_map, tenant)
        pool, cluster = header_map.get(b"x-turnout-pool"), header_map.get(b"x-turnout-cluster")
        try:
            return routes.resolve(model, pool, cluster, client.may)
        except (TargetNotAllowed, PoolNotFound) as error:
            if tenant is not None:
                raise _denied(routes, client, pool, cluster) from None
            if isinstance(error, PoolNotFound):
                raise
            whose = f" (known as {client.name!r})" if client.name else ""
            what = ", ".join(sorted(client.allow)) or "none"
            raise TargetNotAllowed(
                f"{error.message[:-1]}{whose}; it may choose: {what}. Without the header the request goes where its "
                "model leads; the setting `targets` says who may choose what."
            ) from None

    def allowed(self, header_map: Headers, tenant: Tenant | None = None) -> Allowed:
        """Which pools the client of a request may choose."""
        return self.client(header_map, tenant).may

    def client(self, header_map: Headers, tenant: Tenant | None = None) -> ClientPermissions:
        """The permissions of the tenant, else of the client by its key. Takes equally long for a known and an unknown
        key."""
        if tenant is not None:
            return ClientPermissions(tenant.name, tenant.targets)
        found = self._anyone
        if self._known:
            digest = hashlib.sha256(_key(header_map)).digest()
            for known, client in self._known:
                if hmac.compare_digest(known, digest):
                    found = client
        return found


def may_fall_back(header_map: Headers) -> bool:
    """Whether a fall-back may serve the request. Raises BadRequest for a header that is neither true nor false."""
    said = header_map.get(b"x-turnout-fallback")
    if said is None:
        return True
    answer = _WORDS.get(said.strip().lower())
    if answer is None:
        raise BadRequest("The header x-turnout-fallback must be true or false.")
    return answer


def _denied(routes: Routes, client: ClientPermissions, pool: bytes | None, cluster: bytes | None) -> PermissionDenied:
    named = " in ".join(repr(each.decode("utf-8", "replace")[:64]) for each in (pool, cluster) if each is not None)
    there = {name for each in routes.pools.values() if client.may(each) for name in (each.name, cluster_of(each))}
    what = ", ".join(sorted(there - {""} if EVERYTHING in client.allow else there & client.allow)) or "none"
    return PermissionDenied(
        f"This key may not choose {named}; it may choose: {what}. Without the header the request goes where its model "
        "leads."
    )


def _key(header_map: Headers) -> bytes:
    """The value after `Bearer`, else Anthropic's `x-api-key`; empty without either."""
    scheme, _, credentials = header_map.get(b"authorization", b"").partition(b" ")
    return credentials.strip() if scheme.lower() == b"bearer" else header_map.get(b"x-api-key", b"")


def _client(each: TargetClient) -> ClientPermissions:
    return ClientPermissions(each.name or f"{each.key_sha256[:8]}...", frozenset(each.allow))
