"""Swapping a policy: validated first, agreed through the store, and harmless whenever it fails."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import pytest

from router.policy_switch import PolicySwitch
from router.settings import PolicySpec
from schedulers.errors import InvalidParams, SchedulerError, UnknownPolicy
from schedulers.protocols import Scheduler
from schedulers.registry import create
from statesync.errors import StaleGeneration, StoreUnavailable, UnknownPool
from statesync.memory import MemoryStore
from statesync.store import PolicyRecord


class SilentStore:
    """A store that does not answer."""

    async def policy(self, pool: str, /) -> PolicyRecord | None:
        raise StoreUnavailable("gone")

    async def put_policy(
        self, pool: str, name: str, params: Mapping[str, object], /, *, if_generation: int | None
    ) -> PolicyRecord:
        raise StoreUnavailable("gone")


def switch(store: MemoryStore | SilentStore | None = None) -> PolicySwitch:
    return PolicySwitch(store or MemoryStore(), {"a": PolicySpec(name="p2c"), "b": PolicySpec(name="random")}, create)


def test_it_starts_with_what_the_settings_say_as_generation_zero() -> None:
    policies = switch()
    assert policies.current("a").name == "p2c"
    assert policies.record("b") == PolicyRecord("random", {}, 0)


def test_settings_with_an_unknown_policy_are_refused_at_once() -> None:
    with pytest.raises(UnknownPolicy, match="nonesuch"):
        PolicySwitch(MemoryStore(), {"a": PolicySpec(name="nonesuch")}, create)


def test_set_replaces_the_reference_of_that_pool_only() -> None:
    policies = switch()
    before = policies.current("a")
    record = asyncio.run(policies.set("a", "round_robin", {}))
    assert record == PolicyRecord("round_robin", {}, 1)
    assert policies.current("a").name == "round_robin"
    assert before.name == "p2c"
    assert policies.current("b").name == "random"
    assert policies.records == {"a": record, "b": PolicyRecord("random", {}, 0)}


@pytest.mark.parametrize(
    ("name", "params", "error"), [("nonesuch", {}, UnknownPolicy), ("p2c", {"nonesuch": 1}, InvalidParams)]
)
def test_what_cannot_be_built_changes_nothing_not_even_the_store(
    name: str, params: dict[str, object], error: type[SchedulerError]
) -> None:
    store = MemoryStore()
    policies = switch(store)
    before = policies.current("a")
    with pytest.raises(error):
        asyncio.run(policies.set("a", name, params))
    assert policies.current("a") is before
    assert asyncio.run(store.policy("a")) is None


def test_a_stale_generation_is_refused_and_the_present_one_accepted() -> None:
    policies = switch()

    async def run() -> None:
        await policies.set("a", "random", {}, if_generation=0)
        with pytest.raises(StaleGeneration):
            await policies.set("a", "round_robin", {}, if_generation=0)
        assert policies.current("a").name == "random"
        await policies.set("a", "round_robin", {}, if_generation=1)

    asyncio.run(run())
    assert policies.record("a").generation == 2


def test_a_silent_store_leaves_the_old_policy() -> None:
    policies = switch(SilentStore())
    with pytest.raises(StoreUnavailable):
        asyncio.run(policies.set("a", "random", {}))
    assert policies.current("a").name == "p2c"


def test_an_unknown_pool_is_named() -> None:
    with pytest.raises(UnknownPool, match="nonesuch"):
        asyncio.run(switch().set("nonesuch", "p2c", {}))


def test_a_change_on_another_replica_is_followed_and_an_older_one_ignored() -> None:
    policies = switch()
    policies.policy_changed("a", PolicyRecord("round_robin", {}, 5))
    policies.policy_changed("a", PolicyRecord("random", {}, 4))
    policies.policy_changed("not here", PolicyRecord("random", {}, 9))
    assert policies.record("a") == PolicyRecord("round_robin", {}, 5)


def test_a_change_this_build_does_not_know_leaves_the_old_policy() -> None:
    policies = switch()
    policies.policy_changed("a", PolicyRecord("from_a_newer_version", {}, 5))
    assert policies.current("a").name == "p2c"
    policies.policy_changed("a", PolicyRecord("random", {}, 6))
    assert policies.current("a").name == "random"


def test_an_echo_of_the_own_change_does_not_build_a_second_scheduler() -> None:
    built: list[str] = []

    def counting(name: str, params: Mapping[str, object]) -> Scheduler:
        built.append(name)
        return create(name, params)

    policies = PolicySwitch(MemoryStore(), {"a": PolicySpec(name="p2c")}, counting)
    record = asyncio.run(policies.set("a", "random", {}))
    policies.policy_changed("a", record)
    assert built == ["p2c", "random"]
