"""Checks of the settings about who is let in: `auth` and `tenants`. The file of keys is read as the gateway would read
it, so that `turnout check` finds what would fail at the start. Called by `checks.py`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import Final

from router.access.certificates import KINDS
from router.access.keys import NAME, BadKeys, KeyRecord, read_keys
from router.config.plugin_checks import is_version
from router.config.problems import Path, Problem
from router.config.target_checks import known_names, spelling
from router.dataplane.request.routes import cluster_of
from router.dataplane.request.tenant_headers import RIGHTS
from router.settings import Auth, JwtAuth, Pool, Settings, TenantSettings
from schedulers.registry import names

STATE: Final = "state"

_CREATE: Final = "`turnout keys create --file FILE --tenant NAME` makes one"


def access_problems(settings: Settings) -> Iterator[Problem]:
    """Problems of these sections."""
    yield from _tenants(settings)
    if settings.auth is not None:
        yield from _auth(settings, settings.auth)
    elif settings.tenants:
        yield Problem(("tenants",), "have no effect without `auth`: whose a request is, only its key says", "warning")


def _auth(settings: Settings, auth: Auth) -> Iterator[Problem]:
    by_certificate = any(tenant.certificates for tenant in settings.tenants)
    if not auth.keys_file and not auth.keys_from and auth.jwt is None and not by_certificate:
        yield Problem(("auth",), "lets no one in: set keys_file, keys_from or jwt, or certificates of tenants")
    if auth.keys_from not in ("", STATE):
        yield Problem(
            ("auth", "keys_from"), f"{auth.keys_from!r} is not known; write {STATE}, or name a file in keys_file"
        )
    if auth.keys_file and auth.keys_from:
        yield Problem(("auth", "keys_from"), "keys come from a file or from the state, not from both")
    elif auth.keys_from and settings.state.startswith("memory:"):
        why = "keys in `state: memory://` end with the process: use redis://, or keys_file"
        yield Problem(("auth", "keys_from"), why, "warning")
    if not settings.tenants:
        yield Problem(("auth",), "there is no tenant that a key could belong to: add one, as `tenants: [{name: main}]`")
    if auth.jwt is not None:
        yield from _jwt(auth.jwt)
    if auth.keys_file:
        yield from _keys_file(auth.keys_file, [each.name for each in settings.tenants])


def _jwt(jwt: JwtAuth) -> Iterator[Problem]:
    path: Path = ("auth", "jwt")
    for field in ("issuer", "audience", "jwks_file", "tenant_claim"):
        if not getattr(jwt, field):
            yield Problem((*path, field), "is empty")
    try:
        from router.access.tokens import BadKeySet, read_key_set
    except ImportError:
        yield Problem(path, "needs PyJWT and cryptography, which the extra `jwt` brings: pip install 'turnout[jwt]'")
        return
    try:
        read_key_set(jwt.jwks_file)
    except OSError as error:
        if jwt.jwks_file:
            yield Problem((*path, "jwks_file"), f"{jwt.jwks_file} cannot be read: {error.strerror}")
    except BadKeySet as error:
        yield Problem((*path, "jwks_file"), f"{jwt.jwks_file} {error}")


def _keys_file(path: str, tenants: Collection[str]) -> Iterator[Problem]:
    where: Path = ("auth", "keys_file")
    try:
        keys = read_keys(path)
    except OSError as error:
        yield Problem(where, f"{path} cannot be read: {error.strerror}; {_CREATE}")
    except BadKeys as error:
        yield Problem(where, f"{path} {error}")
    else:
        yield from _orphans(keys, path, tenants)


def _orphans(keys: Collection[KeyRecord], path: str, tenants: Collection[str]) -> Iterator[Problem]:
    """Keys that are refused because their tenant is not there."""
    orphans: dict[str, str] = {}
    for key in keys:
        if key.tenant not in tenants and key.revoked is None:
            orphans.setdefault(key.tenant, key.name)
    for tenant, name in orphans.items():
        message = f"{path}: key {name!r} is refused, as there is no tenant {tenant!r}{spelling(tenant, tenants)}"
        yield Problem(("auth", "keys_file"), message, "warning")


def _tenants(settings: Settings) -> Iterator[Problem]:
    pools = {pool.name for pool in settings.pools}
    policies = {*names(), *settings.policies}
    seen: dict[str, int] = {}
    holders: dict[str, str] = {}
    for at, tenant in enumerate(settings.tenants):
        path: Path = ("tenants", at)
        if not NAME.fullmatch(tenant.name):
            yield Problem((*path, "name"), f"{tenant.name!r} is no name: letters, digits, '.', '_' and '-', at most 63")
        elif seen.setdefault(tenant.name, at) != at:
            yield Problem((*path, "name"), f"{tenant.name!r} is the name of tenants[{seen[tenant.name]}] too")
        yield from known_names(tenant.pools, (*path, "pools"), "pool", pools)
        clusters = {cluster_of(pool) for pool in settings.pools}
        yield from known_names(tenant.targets, (*path, "targets"), "pool or cluster", pools | clusters)
        plugins = set(filter(is_version, tenant.policies))
        yield from known_names(tenant.policies, (*path, "policies"), "policy", policies | plugins)
        yield from known_names(tenant.headers, (*path, "headers"), "right to a header", RIGHTS)
        yield from _default_pool(tenant, path, settings.pools)
        yield from _certificates(tenant, path, settings, holders)
        for row, limit in enumerate(tenant.limits):
            if not (limit.requests_per_minute or limit.tokens_per_minute or limit.max_inflight):
                numbers = "requests_per_minute, tokens_per_minute or max_inflight"
                yield Problem((*path, "limits", row), f"limits nothing: set {numbers}")


def _certificates(tenant: TenantSettings, path: Path, settings: Settings, holders: dict[str, str]) -> Iterator[Problem]:
    """Problems of the names of a tenant's certificates; `holders` are the tenants that have each name so far."""
    if tenant.certificates and (settings.tls is None or not settings.tls.client_ca_file):
        yield Problem((*path, "certificates"), "no client is asked for a certificate: set tls.client_ca_file")
    for at, name in enumerate(tenant.certificates):
        kind, _, rest = name.partition(":")
        if kind not in KINDS or not rest:
            known = ", ".join(f"{each}:" for each in KINDS)
            yield Problem((*path, "certificates", at), f"{name!r} is no name: it begins with one of {known}")
        elif holders.setdefault(name, tenant.name) != tenant.name:
            yield Problem((*path, "certificates", at), f"{name!r} is of tenant {holders[name]!r} too")


def _default_pool(tenant: TenantSettings, path: Path, pools: Sequence[Pool]) -> Iterator[Problem]:
    name, where = tenant.default_pool, (*path, "default_pool")
    if not name:
        return
    meant = [pool.name for pool in pools if name in (pool.name, cluster_of(pool))]
    if not meant:
        known = {name for pool in pools for name in (pool.name, cluster_of(pool))}
        yield Problem(where, f"no pool or cluster {name!r}{spelling(name, known)}")
    elif "*" not in tenant.pools and not set(meant).intersection(tenant.pools):
        yield Problem(where, f"{name!r} is not among the tenant's own `pools`")
