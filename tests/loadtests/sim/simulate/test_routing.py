"""The figures that follow from an outcome's times."""

from __future__ import annotations

import pytest

from loadtests.sim.simulate.routing import Outcome
from schedulers.types import Slo


def test_the_time_between_tokens_is_the_mean_after_the_first() -> None:
    assert Outcome(0, 0.0, 1.0, 3.0, 100, 5, 0).itl_s == pytest.approx(0.5)
    assert Outcome(0, 0.0, 1.0, 1.0, 100, 1, 0).itl_s == 0.0


def test_a_promise_is_kept_if_both_times_are() -> None:
    promised = Slo(ttft_s=1.0, tpot_s=0.5)
    assert Outcome(0, 0.0, 1.0, 3.0, 100, 5, 0, slo=promised).met
    assert not Outcome(0, 0.0, 1.1, 3.0, 100, 5, 0, slo=promised).met
    assert not Outcome(0, 0.0, 1.0, 4.0, 100, 5, 0, slo=promised).met
