"""Policies by name: those of the registry, and the named policies of the settings."""

from __future__ import annotations

import pytest

from router.policy.catalog import PolicyCatalog
from router.settings import PolicySpec
from schedulers import registry
from schedulers.errors import InvalidParams, UnknownPolicy
from schedulers.named import Named

READY = {"sticky": PolicySpec(name="session_affinity", params={"balance_factor": 3.0})}


def test_a_policy_named_in_the_settings_is_used_like_any_other() -> None:
    catalog = PolicyCatalog(READY)
    sticky = catalog.create("sticky")
    assert isinstance(sticky, Named)
    assert sticky == Named("sticky", registry.create("session_affinity", {"balance_factor": 3.0}))
    assert catalog.create("p2c", {}) == registry.create("p2c")
    assert catalog.names() == (*registry.names(), "sticky")
    assert set(catalog.by_name()) == {*registry.names(), "sticky"}


def test_it_takes_no_parameters_because_the_settings_have_them() -> None:
    with pytest.raises(InvalidParams, match="'sticky' is ready-made in the settings and takes no parameters"):
        PolicyCatalog(READY).create("sticky", {"balance_factor": 1.0})


def test_each_use_is_a_new_object_around_the_same_policy() -> None:
    catalog = PolicyCatalog(READY)
    one, other = catalog.create("sticky"), catalog.create("sticky")
    assert isinstance(one, Named) and isinstance(other, Named)
    assert one is not other and one.policy is other.policy


def test_the_error_for_an_unknown_name_lists_the_named_policies_too() -> None:
    with pytest.raises(UnknownPolicy, match=r"no policy 'stucky'.*; ready-made: sticky"):
        PolicyCatalog(READY).create("stucky")
    with pytest.raises(UnknownPolicy) as plain:
        PolicyCatalog({}).create("stucky")
    assert "ready-made" not in str(plain.value)


@pytest.mark.parametrize(
    ("spec", "error"),
    [(PolicySpec(name="nonesuch"), UnknownPolicy), (PolicySpec(name="p2c", params={"x": 1}), InvalidParams)],
)
def test_a_named_policy_that_cannot_be_built_is_reported_at_start(spec: PolicySpec, error: type[Exception]) -> None:
    with pytest.raises(error, match="ready-made policy 'broken': "):
        PolicyCatalog({"broken": spec})
