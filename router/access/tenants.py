"""A tenant: the clients that share rights and limits, as a frozen value. Made from the settings once; knows no key.

It has no slots: mypyc gives it some, and compiles no dataclass that makes its own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from router.settings import TenantLimit, TenantSettings

EVERYTHING: Final = "*"
_ALL: Final = frozenset((EVERYTHING,))
_NONE: Final[frozenset[str]] = frozenset()


@dataclass(frozen=True, eq=False)
class Tenant:
    """What one tenant may use. Two tenants are equal only if they are the same object, so that one can be a key of a
    mapping at the cost of a pointer. A set of names with `EVERYTHING` in it stands for all."""

    name: str
    models: frozenset[str] = _ALL
    pools: frozenset[str] = _ALL
    policies: frozenset[str] = _NONE
    targets: frozenset[str] = _NONE
    headers: frozenset[str] = _NONE
    isolate_cache: bool = False
    salted: bool = False
    """Whether any tenant isolates its cache, so that the salts of all tenants must differ."""
    requests_per_minute: int = 0
    tokens_per_minute: int = 0
    max_inflight: int = 0
    limits: tuple[TenantLimit, ...] = ()
    weight: float = 1.0
    priority: int = 0
    default_pool: str = ""
    certificates: frozenset[str] = _NONE

    @property
    def limited(self) -> bool:
        """Whether it has any limit."""
        return bool(self.requests_per_minute or self.tokens_per_minute or self.max_inflight or self.limits)


def tenants_by_name(settings: Sequence[TenantSettings]) -> Mapping[str, Tenant]:
    """The tenants of the settings."""
    salted = any(each.isolate_cache for each in settings)
    return {each.name: _tenant(each, salted=salted) for each in settings}


def _tenant(each: TenantSettings, *, salted: bool) -> Tenant:
    return Tenant(
        name=each.name,
        models=frozenset(each.models),
        pools=frozenset(each.pools),
        policies=frozenset(each.policies),
        targets=frozenset(each.targets),
        headers=frozenset(each.headers),
        isolate_cache=each.isolate_cache,
        salted=salted,
        requests_per_minute=each.requests_per_minute,
        tokens_per_minute=each.tokens_per_minute,
        max_inflight=each.max_inflight,
        limits=tuple(each.limits),
        weight=each.weight,
        priority=each.priority,
        default_pool=each.default_pool,
        certificates=frozenset(each.certificates),
    )
