"""How fast a queue empties, and what is not counted."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.dataplane.drain_rate import DrainRate


def steady(per_s: float, seconds: float) -> DrainRate:
    rate = DrainRate(0.0)
    for number in range(1, int(per_s * seconds) + 1):
        rate.leaves(number / per_s, 100)
    return rate


@given(st.floats(0.5, 500.0))
def test_a_steady_queue_has_its_rate_in_requests_and_in_tokens(per_s: float) -> None:
    rate = steady(per_s, 60.0)
    assert rate.per_s(60.0) == pytest.approx(per_s, rel=0.15)
    assert rate.tokens_per_s(60.0) == pytest.approx(100 * rate.per_s(60.0))
    assert rate.at_most_per_s(60.0) > rate.per_s(60.0)


def test_time_in_which_nothing_waits_is_not_counted() -> None:
    rate = steady(10.0, 30.0)
    rate.pauses(30.0)
    before = rate.per_s(30.0)
    rate.goes_on(1000.0)
    assert rate.per_s(1000.0) == before


def test_of_a_queue_that_has_just_begun_any_rate_is_likely() -> None:
    rate = DrainRate(5.0)
    assert rate.at_most_per_s(5.0) == float("inf")
    assert rate.per_s(5.0) == rate.tokens_per_s(5.0) == 0.0
    assert rate.at_most_per_s(5.01) > 100.0


def test_a_queue_that_stands_still_is_known_to_be_slow_in_time() -> None:
    rate = steady(50.0, 30.0)
    assert rate.at_most_per_s(31.0) > 40.0
    assert rate.at_most_per_s(150.0) < 0.5
