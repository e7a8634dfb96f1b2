"""The highest rate that is held is bracketed and bisected."""

from __future__ import annotations

import pytest

from loadtests.bench.scheduling.find_saturation import EXACT, highest_held


@pytest.mark.parametrize("bound", [0.03, 0.9, 1.0, 1.01, 7.7])
def test_the_rate_found_is_held_and_a_little_more_is_not(bound: float) -> None:
    tried: list[float] = []

    def holds(rate: float) -> bool:
        tried.append(rate)
        return rate <= bound

    found = highest_held(holds)
    assert found <= bound < found * EXACT
    assert len(tried) < 15
