"""The trials of a replica are made, ended and reported, with real stores and real policy controllers."""

from __future__ import annotations

import json

from router.trials.shadow import ShadowSample
from schedulers import registry
from schedulers.types import Decision
from statesync.store.policy_record import PolicyChoice
from tests.fakes.trial_inputs import SNAPSHOT, A, request
from tests.fakes.trial_replicas import NEW, TrialReplica, scene
from tests.fakes.waiting import until


def test_without_a_trial_nothing_runs_and_nothing_is_shown() -> None:
    async def play(left: TrialReplica, right: TrialReplica) -> None:
        await left.monitor.step()
        assert left.trials.report("main") == {"pool": "main", "running": False, "last": None}
        assert not left.trials.running

    scene(play)


def test_a_shadow_alone_handles_only_the_requests_that_it_wants() -> None:
    async def play(left: TrialReplica, right: TrialReplica) -> None:
        await left.policies.set_shadow("main", PolicyChoice("random"))
        shadow = left.trials.running["main"].shadow
        assert shadow is not None
        shadow.sample(ShadowSample(request(), SNAPSHOT, Decision(A, "p2c"), 1e-6))
        assert not left.trials.running
        assert left.trials.report("main")["running"]
        await until(lambda: bool(left.trials.running))
        shadow.sample(ShadowSample(request(), SNAPSHOT, Decision(A, "p2c"), 1e-6))
        await left.policies.set_shadow("main", None)
        assert not left.trials.report("main")["running"]
        left.trials._shadow_wants(shadow, True)  # as the timer of an ended shadow does
        assert not left.trials.running

    scene(play)


def test_a_canary_beside_a_shadow_handles_every_request() -> None:
    async def play(left: TrialReplica, right: TrialReplica) -> None:
        await left.policies.set_shadow("main", PolicyChoice("random"))
        await left.policies.set_canary("main", NEW)
        trial = left.trials.running["main"]
        assert trial.shadow is not None
        trial.shadow.sample(ShadowSample(request(), SNAPSHOT, Decision(A, "p2c"), 1e-6))
        assert left.trials.running["main"] is trial

    scene(play)


def test_failures_of_other_policies_are_not_the_candidates() -> None:
    async def play(left: TrialReplica, right: TrialReplica) -> None:
        await left.policies.set_canary("main", NEW)
        left.trials.policy_failed("main", registry.create("random"))
        left.trials.policy_taken_out("main", left.policies.live("main").scheduler, "why")
        trial = left.trials.running["main"]
        assert trial.canary is not None and trial.canary.policy_failures == 0
        assert not trial.halted

    scene(play)


def test_a_report_with_unknown_figures_is_json() -> None:
    async def play(left: TrialReplica, right: TrialReplica) -> None:
        await left.policies.set_shadow("main", PolicyChoice("random"))
        await left.policies.set_canary("main", NEW)
        json.dumps(left.trials.report("main"), allow_nan=False)
        left.count(40, 1)
        json.dumps(left.trials.report("main"), allow_nan=False)
        await left.policies.cancel("main")
        assert left.trials.report("main")["last"]["generation"] == 2  # type: ignore[index]

    scene(play)
