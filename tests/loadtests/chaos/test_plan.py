"""Plans of faults follow from their seed, and hold every kind."""

from __future__ import annotations

from itertools import pairwise

from loadtests.chaos.faults import MAKING
from loadtests.chaos.plan import HARMLESS, TRACKS, plan_of


def test_a_seed_gives_the_same_plan_again_and_another_seed_another_one() -> None:
    assert plan_of(7, 60.0) == plan_of(7, 60.0)
    assert plan_of(7, 60.0).faults != plan_of(8, 60.0).faults


def test_ten_minutes_hold_every_kind_and_every_kind_can_be_made() -> None:
    plan = plan_of(1, 600.0)
    kinds = {kind for track in TRACKS.values() for kind in track}
    assert {fault.kind for fault in plan.faults} == kinds == set(MAKING)
    assert kinds >= HARMLESS


def test_faults_of_a_track_do_not_overlap_and_leave_the_ends_of_the_run_undisturbed() -> None:
    plan = plan_of(3, 120.0, calm_s=4.0)
    for track in TRACKS:
        faults = [fault for fault in plan.faults if fault.track == track]
        assert all(one.at_s + one.for_s < other.at_s for one, other in pairwise(faults))
        assert faults[0].at_s >= 4.0
        assert faults[-1].at_s + faults[-1].for_s <= 116.0


def test_kinds_can_be_limited_without_moving_the_others() -> None:
    every, some = plan_of(5, 300.0), plan_of(5, 300.0, only=["redis_killed", "pod_stall"])
    assert set(some.faults) == {fault for fault in every.faults if fault.kind in ("redis_killed", "pod_stall")}
