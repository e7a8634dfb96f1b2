"""API keys that tests know, and what knows them in turn."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from hashlib import sha256

from router.access.identity import AccessControl
from router.access.keys import KeyRecord
from router.access.tenants import Tenant, tenants_by_name
from router.settings import TenantSettings

KEY = "tok-of-search"
"""The key of the tenant `search`."""


def record(key: str = KEY, tenant: str = "search", **fields: datetime) -> KeyRecord:
    """A key as it is stored; its name is `NAME` of `tok-NAME`."""
    digest = sha256(key.encode()).hexdigest()
    return KeyRecord(name=key.removeprefix("tok-"), tenant=tenant, sha256=digest, **fields)


def access(*keys: KeyRecord, wall: Callable[[], float] = lambda: 0.0) -> AccessControl:
    """What knows these keys, or `KEY` alone, and the tenants `search` and `chat`."""
    known = AccessControl({name: Tenant(name) for name in ("search", "chat")}, wall)
    known.use(keys or [record()])
    return known


def access_of(*tenants: TenantSettings) -> AccessControl:
    """What knows these tenants, each by the key `tok-NAME`."""
    known = AccessControl(tenants_by_name(tenants), lambda: 0.0)
    known.use([record(f"tok-{each.name}", each.name) for each in tenants])
    return known


def bearer(tenant: str) -> str:
    """The header line with the key of a tenant of `access_of`."""
    return f"authorization: Bearer tok-{tenant}"
