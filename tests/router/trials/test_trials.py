"""The trials of a replica are made, ended and reported, with real stores and real policy controllers."""

from __future__ import annotations

import json
from functools import partial

from router.policy.model import ChangeOptions
from router.trials.fleet import PoolHistory
from router.trials.shadow import ShadowSample
from router.trials.trials import Trials
from schedulers import registry
from schedulers.types import Decision
from statesync.store.policy_record import PolicyChoice
from tests.fakes.trial_inputs import SNAPSHOT, A, Fixed, record, request
from tests.fakes.trial_replicas import NEW, TrialReplica, scene
from tests.fakes.virtual_time import Clock
from tests.fakes.waiting import until


def test_without_a_trial_nothing_runs_and_nothing_is_shown() -> None:
    async def play(left: TrialReplica, right: TrialReplica) -> None:
        await left.monitor.step()
        assert left.trials.report("main") == {"pool": "main", "running": False, "last": None, "earlier": []}
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


def test_an_added_shadow_and_a_larger_share_go_on_with_the_candidate() -> None:
    """Case J 56."""

    async def play(left: TrialReplica, right: TrialReplica) -> None:
        await left.policies.set_canary("main", NEW)
        left.count(40)
        await left.policies.set_shadow("main", PolicyChoice("random"))
        shown = left.trials.report("main")
        assert shown["canary"]["arms"]["canary"]["requests"] == 40  # type: ignore[index]
        assert (shown["last"], left.trials.watched["main"].key) == (None, 1)
        await left.policies.set_canary("main", NEW._replace(percent=70.0))
        shown = left.trials.report("main")
        assert shown["canary"]["arms"]["canary"]["requests"] == 0  # type: ignore[index]
        assert shown["canary"]["stage"] == 1  # type: ignore[index]
        assert shown["last"]["canary"]["arms"]["canary"]["requests"] == 40  # type: ignore[index]
        record = left.policies.record("main")
        assert record.canary is not None
        assert (record.canary.began, record.canary.since, record.canary.stage) == (1, 3, 1)

    scene(play)


def test_the_figures_of_a_candidate_stay_after_it_is_promoted_and_rolled_back() -> None:
    """Case J 59: in the history, which all replicas share, and as the reports of this replica."""

    async def play(left: TrialReplica, right: TrialReplica) -> None:
        await left.policies.set_canary("main", NEW)
        left.count(2000)
        note = (await left.policies.promote("main", ChangeOptions(note="seen enough"))).note
        assert note.startswith("seen enough; canary after 4000 requests: error_rate 0 % (")
        back = (await left.policies.rollback("main")).note
        assert back.startswith("rolled back to generation ") and "canary" not in back
        await left.policies.set_canary("main", NEW._replace(percent=20.0))
        await left.policies.set_canary("main", None)
        shown = left.trials.report("main")
        assert shown["last"]["canary"]["percent"] == 20.0  # type: ignore[index]
        assert [each["canary"]["percent"] for each in shown["earlier"]] == [50.0]  # type: ignore[attr-defined]

    scene(play)


def test_the_pools_times_before_a_canary_are_those_before_its_first_share() -> None:
    """Case J 57."""
    totals = [0, 0]
    trials = Trials("here/1", Clock(), histories={"main": PoolHistory((0.1,), lambda: tuple(totals))})
    trials.note_pools()
    totals[:] = [500, 500]
    make = partial(trials.make, "main", scheduler=Fixed(), shadow=None, candidate=Fixed(name="new"))
    first = record(1, 10.0)
    assert first.canary is not None
    first = first._replace(canary=first.canary._replace(began=1, since=1))
    assert first.canary is not None
    make(first)
    totals[:] = [800, 800]
    second = make(first._replace(generation=2, canary=first.canary._replace(percent=20.0, since=2, stage=1)))
    assert second is not None
    totals[:] = [900, 900]
    own = second.own()
    assert (sum(own.before.values()), sum(own.during.values())) == (500, 100)
