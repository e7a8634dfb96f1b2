"""A short run of the bench of trials: real wrk, real engines, a real gateway, each mode once."""

from __future__ import annotations

from pathlib import Path

import pytest

from loadtests.bench.shadow.measure import MODES, Gateway, Plan, windows

pytestmark = pytest.mark.needs("wrk")


@pytest.mark.realtime
def test_every_mode_is_loaded_once_per_round_and_every_answer_is_good(tmp_path: Path) -> None:
    found = list(windows(Plan(rounds=1, seconds=3), tmp_path))
    assert {each.mode for each in found} == {*MODES}
    assert all(each.requests > 0 and each.cpu_us > 0 and each.wrong == 0 for each in found)


@pytest.mark.slow
def test_a_mode_is_the_trial_that_runs(tmp_path: Path) -> None:
    gateway = Gateway(Plan(), tmp_path)
    try:
        for mode, wanted in MODES.items():
            gateway.use(mode)
            trial = gateway.trial()
            assert [kind for kind in ("shadow", "canary") if trial.get(kind)] == [*wanted]
    finally:
        gateway.stop()
