"""Sums of promises: what was added is what is taken off."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from statesync.load.promises import LEAST_S, MOST_S, Promise, Promises, step_of

PROMISES = st.lists(st.builds(Promise, st.floats(1e-9, 1e6), st.sampled_from((0.25, 1.0, 8.0))), max_size=30)


@given(PROMISES)
def test_when_all_have_ended_nothing_is_shown(promises: list[Promise]) -> None:
    sums = Promises()
    for each in promises:
        sums.add(each)
    assert sum(weight for _, weight in sums.shown(1, 1)) == pytest.approx(sum(each.weight for each in promises))
    for each in sorted(promises):
        sums.remove(each)
    assert sums.shown(1, 1) == ()


@given(st.floats(LEAST_S, MOST_S))
def test_a_step_is_never_longer_than_the_promise_and_at_most_a_fifth_shorter(tpot_s: float) -> None:
    assert 0.8 * tpot_s < step_of(tpot_s) <= tpot_s * (1 + 1e-6)


def test_extreme_promises_share_the_outermost_steps() -> None:
    assert step_of(1e-12) == step_of(LEAST_S)
    assert step_of(1e12) == step_of(MOST_S)


def test_other_replicas_requests_are_taken_to_be_promised_the_same() -> None:
    sums = Promises()
    sums.add(Promise(0.25, 2.0))
    assert sums.shown(2, 8) == ((0.25, 8.0),)
    assert sums.shown(0, 8) == ((0.25, 2.0),)
