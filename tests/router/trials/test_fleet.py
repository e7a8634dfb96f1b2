"""The pool as a whole: what it was before a trial, and whether the candidate crowds pods (Case J 57)."""

from __future__ import annotations

import pytest

from router.trials.durations import bucket_of, middle, quantile, total
from router.trials.figures import ArmFigures, TrialFigures
from router.trials.fleet import EVERY_S, SPAN_S, PoolHistory, crowding, is_known

BOUNDS = (0.1, 0.25, 0.5)


def test_times_before_a_trial_are_those_of_the_last_minutes() -> None:
    totals = [0, 0, 0, 0]
    history = PoolHistory(BOUNDS, lambda: tuple(totals))
    for at in range(100):
        history.note(at * EVERY_S)
        history.note(at * EVERY_S + 1.0)
        totals[:] = [count + step for count, step in zip(totals, (1, 1, 2, 2), strict=True)]
    before = history.before()
    assert total(before) == 2 * (int(SPAN_S / EVERY_S) + 1)
    assert 0.24 < middle(quantile(before, 0.95)) < 0.5


def test_times_are_spread_evenly_between_two_bounds() -> None:
    history = PoolHistory(BOUNDS, lambda: (0, 190, 190, 192))
    found = history.since((0, 0, 0, 0))
    low, high = bucket_of(0.1), bucket_of(0.25)
    assert sum(found[at] for at in range(low, high)) == 190
    assert max(found[at] for at in range(low, high)) - min(found[at] for at in range(low, high)) <= 1
    assert found[bucket_of(0.5) - 1] == 2


def test_without_notes_there_is_no_before() -> None:
    assert PoolHistory(BOUNDS, lambda: (1, 2, 3, 4)).before() == {}
    assert not is_known(TrialFigures())


def arm(placed: int, fuller: int) -> ArmFigures:
    """Every request in a session of its own."""
    return ArmFigures(
        placed=placed, placed_by=dict.fromkeys(range(placed), 1), fuller_by=dict.fromkeys(range(fuller), 1)
    )


@pytest.mark.parametrize(("fuller", "shown"), [(12, False), (38, True)])
def test_a_candidate_that_picks_fuller_pods_more_often_is_found(fuller: int, shown: bool) -> None:
    figures = TrialFigures(baseline=arm(120, 30), canary=arm(40, fuller))
    assert (crowding(figures) > 5.0) is shown
