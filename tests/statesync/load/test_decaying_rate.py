"""Rates from counts at known times."""

from __future__ import annotations

import math

import pytest

from statesync.load.decaying_rate import MEMORY_S, DecayingRate, together


def test_the_rate_of_a_steady_stream_does_not_depend_on_how_often_it_is_counted() -> None:
    for every_s in (0.002, 0.1, 3.0):
        rate = DecayingRate()
        for step in range(1, int(10 / every_s) + 1):
            rate.add(50 * every_s, step * every_s, every_s)
        assert rate.per_s(int(10 / every_s) * every_s) == pytest.approx(50, rel=0.01)


def test_old_counts_fade_within_the_memory() -> None:
    rate = DecayingRate()
    rate.add(10, 100.0, 0.0)
    assert rate.per_s(100.0) == pytest.approx(10 / MEMORY_S)
    assert rate.per_s(100.0 + MEMORY_S) == pytest.approx(10 / MEMORY_S / math.e)
    assert rate.per_s(99.0) == rate.per_s(100.0)
    assert rate.per_s(1e9) == 0.0


def test_several_together_are_their_sum() -> None:
    one, two = DecayingRate(), DecayingRate()
    one.add(10, 100.0, 0.0)
    two.add(4, 100.3, 0.2)
    whole = together([one, two], 101.0)
    for at in (101.0, 101.7):
        assert whole.per_s(at) == pytest.approx(one.per_s(at) + two.per_s(at))
    assert together([], 5.0).weight == 0.0
    assert repr(together([one], 100.0)) == "<DecayingRate 20/s at 100>"
