"""Changes of a record, as pure functions."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from router.policy import transitions as changes
from router.policy.transitions import Change, NoCanary, NothingBefore, NotInHistory
from statesync.store.policy_record import Canary, CanaryGuard, PolicyChoice
from statesync.store.protocol import PolicyRecord

CANARY = Canary(PolicyChoice("p2c", {"k": 1}), 12.5)
SHADOW = PolicyChoice("random")
PLAIN = PolicyRecord("a", {"x": 1}, 7, note="why it came", restores=2)
FULL = PLAIN._replace(shadow=SHADOW, canary=CANARY)


def test_setting_a_policy_keeps_only_the_shadow() -> None:
    assert changes.policy_set("b", {"y": 2})(FULL, ()) == PolicyRecord("b", {"y": 2}, 7, SHADOW)


def test_shadow_and_canary_change_independently_and_keep_what_a_rollback_restored() -> None:
    bare = PLAIN._replace(note="")
    assert changes.shadow_set(SHADOW)(PLAIN, ()) == bare._replace(shadow=SHADOW)
    assert changes.shadow_set(None)(FULL, ()) == bare._replace(canary=CANARY._replace(began=7, since=7))
    assert changes.canary_set(CANARY)(PLAIN, ()) == bare._replace(canary=CANARY)
    assert changes.canary_set(None)(FULL, ()) == bare._replace(shadow=SHADOW)
    assert changes.cancelled(FULL, ()) == bare


def test_a_candidate_keeps_its_draw_through_shares_and_guards_and_each_share_is_a_stage() -> None:
    """Case J 56."""
    first = changes.canary_set(CANARY)(PLAIN, ())._replace(generation=8)
    assert first.canary == CANARY
    half = changes.canary_set(CANARY._replace(percent=50.0))(first, ())._replace(generation=9)
    assert half.canary == CANARY._replace(percent=50.0, began=8, since=9, stage=1)
    strict = changes.canary_set(CANARY._replace(percent=50.0, guard=CanaryGuard(0.005)))(half, ())
    assert strict.canary == half.canary._replace(guard=CanaryGuard(0.005))
    shadowed = changes.shadow_set(SHADOW)(half, ())._replace(generation=10)
    assert shadowed.canary == half.canary
    other = CANARY._replace(choice=PolicyChoice("p2c", {"k": 2}))
    assert changes.canary_set(other)(half, ()).canary == other
    turns = CANARY._replace(percent=50.0, switchback_s=30.0)
    assert changes.canary_set(turns)(half, ()).canary == turns


@pytest.mark.parametrize("change", [changes.shadow_set(None), changes.canary_set(None), changes.cancelled])
def test_ending_a_trial_that_does_not_run_changes_nothing(change: Change) -> None:
    assert change(PLAIN, ()) is PLAIN


def test_the_candidate_is_promoted_with_its_parameters() -> None:
    note = "promoted from a canary of 12.5 %"
    assert changes.promoted(FULL, ()) == PolicyRecord("p2c", {"k": 1}, 7, SHADOW, note=note)
    same = FULL._replace(shadow=CANARY.choice)
    assert changes.promoted(same, ()).shadow is None
    with pytest.raises(NoCanary, match="nothing to promote"):
        changes.promoted(PLAIN, ())


def rolled(records: Sequence[PolicyRecord], to: int | None = None) -> list[PolicyRecord]:
    """The history after another rollback, newest first."""
    wanted = changes.rolled_back(to)(records[0], records)
    return [wanted._replace(generation=records[0].generation + 1), *records]


def records_of(*names: str) -> list[PolicyRecord]:
    """A history in which these policies were set in turn, from generation 0, newest first."""
    return [PolicyRecord(name, {}, at) for at, name in enumerate(names)][::-1]


def test_each_rollback_goes_one_policy_further_back_and_never_to_what_was_rolled_back() -> None:
    history = records_of("a", "b", "c", "d")
    for expected in ("c", "b", "a"):
        history = rolled(history)
        assert history[0].name == expected
    assert history[0].restores == 0
    assert history[0].note == "rolled back to generation 0"
    with pytest.raises(NothingBefore, match="no policy other than a is known from before generation 0"):
        rolled(history)


def test_records_of_an_equal_policy_are_skipped_but_not_those_with_other_parameters() -> None:
    first = PolicyRecord("a", {"x": 1}, 1)
    second = PolicyRecord("a", {"x": 2}, 2)
    on_trial = second._replace(generation=3, canary=CANARY)
    ended = second._replace(generation=4)
    wanted = changes.rolled_back()(ended, [ended, on_trial, second, first])
    assert (wanted.name, wanted.params, wanted.restores) == ("a", {"x": 1}, 1)


def test_a_second_rollback_goes_before_what_the_first_restored() -> None:
    history = rolled(records_of("a", "b", "c"))  # b again, in generation 3
    history = [PolicyRecord("d", {}, 4), *history]
    history = rolled(history)
    assert (history[0].name, history[0].restores) == ("b", 1)
    assert rolled(history)[0].name == "a"


def test_a_change_of_the_shadow_keeps_how_far_a_rollback_went() -> None:
    history = rolled(records_of("a", "b", "c"))
    history = [changes.shadow_set(SHADOW)(history[0], ())._replace(generation=4), *history]
    assert rolled(history)[0].name == "a"


def test_a_rollback_ends_shadow_and_canary() -> None:
    history = [PolicyRecord("b", {}, 1, SHADOW, CANARY), PolicyRecord("a", {}, 0)]
    assert rolled(history)[0][3:5] == (None, None)


def test_a_rollback_may_name_any_kept_generation_newer_ones_included() -> None:
    history = rolled(records_of("a", "b", "c"))
    assert rolled(history, to=2)[0].name == "c"
    assert rolled(history, to=0)[0].name == "a"
    with pytest.raises(NotInHistory, match=r"generation 9 .* there are: 3, 2, 1, 0"):
        rolled(history, to=9)
