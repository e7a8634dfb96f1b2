"""Plugins in a replica's parts: watched where they are somebody else's, taken up by who waits for them."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from router.plugins import watcher
from router.plugins.attach import AttachedPlugins
from router.plugins.loading import digest_of
from router.plugins.watchdog import Watched
from router.policy.catalog import PolicyCatalog
from router.policy.controller import PolicyController
from router.settings import Plugins, PolicyGuard, PolicySpec, Settings
from schedulers import registry
from schedulers.errors import UnknownPolicy
from schedulers.guard import PolicyTimeout
from statesync.store.memory import MemoryStore
from statesync.store.protocol import PolicyRecord
from tests.fakes import plugin_checks
from tests.fakes.plugin_files import GOOD, picks

NAME = f"freest_kv@{digest_of(GOOD.encode())}"


@pytest.fixture(autouse=True)
def _as_it_was(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(registry, "_policies", dict(registry.BUILT_IN))
    before = signal.getsignal(signal.SIGALRM)
    yield
    signal.signal(signal.SIGALRM, before)


@pytest.fixture
def _checked_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watcher, "check", plugin_checks.check)


checked_here = pytest.mark.usefixtures("_checked_here")


def wired(directory: Path | None, **guard: float) -> AttachedPlugins:
    plugins = Plugins(directory=str(directory or ""), interval_s=0.01, check_timeout_s=100.0)
    return AttachedPlugins(Settings(plugins=plugins, policy_guard=PolicyGuard(**guard)))  # type: ignore[arg-type]


def test_without_a_directory_there_is_nothing_to_look_at_and_nobody_to_sample() -> None:
    plugins = wired(None)
    assert plugins.samples is None
    assert plugins.shown()["plugins"] == []
    asyncio.run(plugins.run())


@checked_here
def test_only_what_is_not_built_in_is_watched(tmp_path: Path) -> None:
    (tmp_path / "freest.py").write_text(GOOD)
    plugins = wired(tmp_path)
    assert not isinstance(plugins.create("p2c", {}), Watched)
    policy = plugins.create(NAME, {"limit": 0.5})
    assert isinstance(policy, Watched)
    assert policy.name == NAME
    ready = PolicyCatalog({"mine": PolicySpec(name=NAME)}, plugins.create).create("mine")
    assert (ready.name, "Watched" in repr(ready)) == ("mine", True)


@checked_here
def test_a_plugin_that_hangs_in_the_gateway_is_broken_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "freest.py").write_text(GOOD)
    plugins = wired(tmp_path, stuck_s=0.02)
    policy = plugins.create(NAME)
    assert isinstance(policy, Watched)

    def hang(request: object, snapshot: object) -> None:
        while True:
            pass

    monkeypatch.setattr(policy, "_pick", hang)
    with pytest.raises(PolicyTimeout):
        policy.pick(None, None)  # type: ignore[arg-type]


@checked_here
def test_a_record_that_came_before_its_file_is_taken_up_with_it(tmp_path: Path) -> None:
    plugins = wired(tmp_path)
    catalog = PolicyCatalog({}, plugins.create)
    policies = PolicyController(MemoryStore(), {"main": PolicySpec(name="p2c")}, catalog.create)
    by_name = catalog.by_name()
    plugins.join(policies, catalog.create, by_name)
    policies.policy_changed("main", PolicyRecord(NAME, {}, 3))
    assert (policies.current("main").name, NAME in by_name) == ("p2c", False)

    async def until_offered() -> None:
        task = asyncio.get_running_loop().create_task(plugins.run())
        async with asyncio.timeout(60):
            while NAME not in by_name:  # noqa: ASYNC110  the watcher has no event
                await asyncio.sleep(0.01)
        task.cancel()

    (tmp_path / "freest.py").write_text(GOOD)
    asyncio.run(until_offered())
    assert policies.current("main").name == NAME
    assert policies.record("main").generation == 3


@checked_here
def test_a_version_is_kept_as_long_as_a_pool_can_come_back_to_it(tmp_path: Path) -> None:
    (tmp_path / "freest.py").write_text(GOOD)
    plugins = wired(tmp_path)
    catalog = PolicyCatalog({}, plugins.create)
    policies = PolicyController(MemoryStore(), {"main": PolicySpec(name="p2c")}, catalog.create)
    by_name = catalog.by_name()
    plugins.join(policies, catalog.create, by_name)
    assert plugins._watcher is not None

    async def run() -> None:
        await policies.set("main", NAME, {})
        (tmp_path / "freest.py").unlink()
        await plugins._watcher.step()  # type: ignore[union-attr]
        await policies.set("main", "random", {})
        await plugins._watcher.step()  # type: ignore[union-attr]
        assert (await policies.rollback("main")).name == NAME
        for _ in range(40):
            await policies.set("main", "random", {})
            await policies.set("main", "p2c", {})
        await plugins._watcher.step()  # type: ignore[union-attr]
        assert NAME not in by_name
        with pytest.raises(UnknownPolicy):
            await policies.set("main", NAME, {})

    asyncio.run(run())


def test_a_pools_own_policy_may_be_a_plugin_from_the_start(tmp_path: Path) -> None:
    (tmp_path / "freest.py").write_text(GOOD)
    (tmp_path / "bad.py").write_text(picks("return None"))
    plugins = wired(tmp_path)
    policies = PolicyController(MemoryStore(), {"main": PolicySpec(name=NAME)}, plugins.create)
    assert policies.current("main").name == NAME
