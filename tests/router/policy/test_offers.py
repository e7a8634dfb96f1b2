"""Plugin files and the pools' policies: records that wait for their file, and versions that a pool can return to."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from router.plugins import watcher
from router.plugins.loading import digest_of
from router.plugins.registry import PluginRegistry
from router.plugins.watcher import PluginWatcher, load_present
from router.policy.catalog import PolicyCatalog
from router.policy.controller import PolicyController
from router.policy.offers import PluginOffers
from router.settings import Plugins, PolicySpec
from schedulers import registry
from schedulers.errors import UnknownPolicy
from statesync.store.memory import MemoryStore
from statesync.store.protocol import PolicyRecord
from tests.fakes import plugin_checks
from tests.fakes.plugin_files import GOOD, picks
from tests.fakes.waiting import until

NAME = f"freest_kv@{digest_of(GOOD.encode())}"


@pytest.fixture(autouse=True)
def _as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_policies", dict(registry.BUILT_IN))
    monkeypatch.setattr(watcher, "check", plugin_checks.check)


class PluginPool:
    """The pool `main` and the plugins of a directory, connected as in a replica."""

    def __init__(self, directory: Path, policy: str = "p2c") -> None:
        settings, plugin_registry = Plugins(directory=str(directory), interval_s=0.01), PluginRegistry()
        load_present(settings, plugin_registry)
        self.catalog = PolicyCatalog({})
        self.policies = PolicyController(MemoryStore(), {"main": PolicySpec(name=policy)}, self.catalog.create)
        self.plugins = PluginWatcher(settings, plugin_registry, tuple, PluginOffers(self.catalog, self.policies))


def test_a_record_received_before_its_file_is_followed_once_the_file_exists(tmp_path: Path) -> None:
    pool = PluginPool(tmp_path)
    offered = pool.catalog.by_name()
    pool.policies.policy_changed("main", PolicyRecord(NAME, {}, 3))
    assert (pool.policies.live("main").scheduler.name, NAME in offered) == ("p2c", False)

    async def until_offered() -> None:
        task = asyncio.get_running_loop().create_task(pool.plugins.run())
        await until(lambda: NAME in offered)
        task.cancel()

    (tmp_path / "freest.py").write_text(GOOD)
    asyncio.run(until_offered())
    assert pool.policies.live("main").scheduler.name == NAME
    assert pool.policies.record("main").generation == 3


def test_a_version_is_kept_as_long_as_a_pool_can_return_to_it(tmp_path: Path) -> None:
    (tmp_path / "freest.py").write_text(GOOD)
    pool = PluginPool(tmp_path)
    policies = pool.policies

    async def run() -> None:
        await policies.set("main", NAME, {})
        (tmp_path / "freest.py").unlink()
        await pool.plugins.step()
        await policies.set("main", "random", {})
        await pool.plugins.step()
        assert (await policies.rollback("main")).name == NAME
        for _ in range(40):
            await policies.set("main", "random", {})
            await policies.set("main", "p2c", {})
        await pool.plugins.step()
        assert NAME not in pool.catalog.by_name()
        with pytest.raises(UnknownPolicy):
            await policies.set("main", NAME, {})

    asyncio.run(run())


@pytest.mark.slow
def test_a_pools_own_policy_may_be_a_plugin_from_the_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()  # a real check
    monkeypatch.setattr(registry, "_policies", dict(registry.BUILT_IN))
    (tmp_path / "freest.py").write_text(GOOD)
    (tmp_path / "bad.py").write_text(picks("return None"))
    assert PluginPool(tmp_path, NAME).policies.live("main").scheduler.name == NAME


def test_without_a_directory_nothing_is_watched() -> None:
    pool = PluginPool(Path())
    plugins = PluginWatcher(Plugins(), PluginRegistry(), tuple, PluginOffers(pool.catalog, pool.policies))
    assert plugins.describe() == {"directory": "", "entry_points": [], "plugins": []}
    asyncio.run(plugins.run())
