"""The composition root: `build` makes every component, connects it to those it needs, and starts nothing."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path

import pytest

from router.lifecycle import Phase
from router.plugins import watcher
from router.replica.build import SAFE_POLICY, build
from router.settings import Plugins, PolicySpec, Pool, Recording, Timeouts
from schedulers import registry
from schedulers.errors import SchedulerError
from schedulers.guard import Failure
from schedulers.types import Pod, PodId, RequestInfo
from statesync.engines.health import Outcome
from statesync.store.policy_record import Canary, PolicyChoice
from tests.fakes import plugin_checks
from tests.fakes.local_replica import settings
from tests.fakes.plugin_files import GOOD
from tests.fakes.waiting import until

A, B = (Pod(PodId(f"127.0.0.1:{port}"), f"127.0.0.1:{port}") for port in (1, 2))
URL = "http://127.0.0.1:1"


def test_a_policy_that_does_not_exist_is_refused() -> None:
    wrong = Pool(name="main", policy=PolicySpec(name="least_conn"))
    with pytest.raises(SchedulerError, match="least_load"):
        build(settings(pools=[wrong]))


def test_the_shortest_limit_sets_how_often_deadlines_are_checked() -> None:
    quick = Pool(name="main", pods=[URL], timeouts=Timeouts(first_byte_s=0.1))
    assert build(settings(pools=[quick])).network.deadlines.resolution_s == pytest.approx(0.025)
    assert build(settings(URL)).network.deadlines.resolution_s == 0.25


def test_a_replica_has_the_name_in_its_settings_or_a_generated_one() -> None:
    assert build(settings(URL)).core.name == "r1"
    assert len({build(settings(URL, replica="")).core.name for _ in range(3)}) == 3


def test_nothing_is_started(tmp_path: Path) -> None:
    before = threading.active_count()
    parts = build(settings(URL, recording=Recording(path=str(tmp_path / "traffic.jsonl"))))
    assert parts.core.lifecycle.phase is Phase.STARTING
    assert parts.dataplane.observers.recorder is not None
    assert threading.active_count() == before
    assert list(tmp_path.iterdir()) == []


def test_optional_components_exist_only_with_their_setting() -> None:
    parts = build(settings(URL))
    assert (parts.dataplane.observers, parts.policy.samples) == ((None, None, None), None)
    assert parts.policy.plugins.describe()["plugins"] == []


def test_requests_are_sampled_for_new_plugins_if_there_is_a_plugin_directory(tmp_path: Path) -> None:
    assert build(settings(URL, plugins=Plugins(directory=str(tmp_path)))).policy.samples is not None


def test_discovery_and_health_reach_the_view() -> None:
    async def run() -> None:
        parts = build(settings(URL))
        parts.pods.registry.on_pods("main", [A, B])
        assert [pod.id for pod, _ in parts.state.view.snapshot("main").candidates] == [A.id, B.id]
        for _ in range(parts.core.settings.health.eject_failures):
            parts.pods.health.outcome(A.id, Outcome.FAILURE, parts.core.clock())
        assert parts.core.metrics.ejections == {(A.id, "ejected"): 1}
        assert [pod.id for pod, _ in parts.state.view.snapshot("main").candidates] == [B.id]

    asyncio.run(run())


def test_a_policy_that_fails_too_often_is_taken_out_of_its_pool_and_fails_its_trial() -> None:
    async def run() -> None:
        parts = build(settings(URL))
        policy = parts.policy
        parts.pods.registry.on_pods("main", [A])
        snapshot = parts.state.view.snapshot("main")
        request = RequestInfo("r", "m", 1, 0, 0.0, 7, 0)
        await policy.controller.set_canary("main", Canary(PolicyChoice("random"), 50.0))
        canary = policy.trials.running["main"].canary
        assert canary is not None
        for scheduler in (policy.controller.live("main").scheduler, canary.scheduler):
            for _ in range(parts.core.settings.policy_guard.failures):
                policy.circuit_breaker.failed(scheduler, request, snapshot, Failure("raised", "raised"))
        assert policy.controller.live("main").scheduler.name == SAFE_POLICY
        assert canary.policy_failures == parts.core.settings.policy_guard.failures
        await policy.trial_monitor.step()
        assert policy.controller.record("main").canary is None
        assert policy.trial_monitor.rollbacks == {"main": 1}
        assert "canary random rolled back: policy_failures" in policy.controller.record("main").note

    asyncio.run(run())


def test_a_plugin_added_later_can_be_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_policies", dict(registry.BUILT_IN))
    monkeypatch.setattr(watcher, "check", plugin_checks.check)

    async def run() -> None:
        policy = build(settings(URL, plugins=Plugins(directory=str(tmp_path), interval_s=0.01))).policy
        running = asyncio.get_running_loop().create_task(policy.plugins.run())
        (tmp_path / "freest.py").write_text(GOOD)
        await until(lambda: any(name.startswith("freest_kv@") for name in policy.catalog.by_name()))
        running.cancel()

    asyncio.run(run())
