"""A tenant has what its section says, and what it does not say is no limit."""

from __future__ import annotations

from router.access.tenants import EVERYTHING, Tenant, tenants_by_name
from router.settings import TenantLimit, TenantSettings


def test_a_tenant_without_more_than_a_name_may_use_all_and_choose_nothing() -> None:
    tenant = tenants_by_name([TenantSettings(name="search")])["search"]
    assert tenant.models == tenant.pools == frozenset((EVERYTHING,))
    assert not tenant.policies
    assert not tenant.targets
    assert tenant.headers == {"deadline"}
    assert (tenant.requests_per_minute, tenant.tokens_per_minute, tenant.max_inflight) == (0, 0, 0)
    assert (tenant.weight, tenant.priority, tenant.default_pool) == (1.0, 0, "")


def test_every_field_of_the_section_is_in_the_tenant() -> None:
    section = TenantSettings(
        name="search",
        models=("m",),
        pools=("p",),
        policies=["p2c"],
        targets=["t"],
        headers=("slo",),
        requests_per_minute=1,
        tokens_per_minute=2,
        max_inflight=3,
        limits=[TenantLimit(key="*", max_inflight=1)],
        weight=4.0,
        priority=5,
        default_pool="p",
        certificates=("CN:a",),
    )
    tenant = tenants_by_name([section])["search"]
    for name in TenantSettings.__struct_fields__:
        given = getattr(section, name)
        made = tuple(given) if name == "limits" else frozenset(given) if isinstance(given, list | tuple) else given
        assert getattr(tenant, name) == made


def test_two_tenants_of_equal_fields_are_two() -> None:
    assert len({Tenant("a"), Tenant("a")}) == 2
