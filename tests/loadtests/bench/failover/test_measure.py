"""The bench of failover: its modes are settings that the gateway takes, and the steps that it times move a stream."""

from __future__ import annotations

import msgspec
import pytest

from loadtests.bench.failover import measure
from router.settings import Failover


@pytest.mark.parametrize("mode", measure.MODES)
def test_a_mode_is_a_setting_of_a_pool(mode: str) -> None:
    found = msgspec.convert(measure.MODES[mode], Failover)
    assert (found.mid_stream or found.resume) == (mode != "off")


def test_each_step_of_a_move_is_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measure, "TOKENS", 20)
    monkeypatch.setattr(measure, "_TIMES", 1)
    assert list(measure.steps()) == ["request", "chunk", "move", "chunk of the next pod"]
