"""The report of the failover bench: what a mode adds is taken within a round."""

from __future__ import annotations

from loadtests.bench.failover.__main__ import added, tables
from loadtests.bench.failover.measure import Window

WINDOWS = [
    Window(mode, number, us, 1.0, 70_000_000, 0)
    for number, (off, on) in enumerate(((10.0, 11.0), (20.0, 22.0), (10.0, 15.0)), start=1)
    for mode, us in (("off", off), ("resume", on))
]


def test_what_is_added_is_compared_within_a_round() -> None:
    assert f"{added(WINDOWS, 'resume'):.2f}" == "0.10"


def test_the_modes_that_were_measured_stand_in_the_table() -> None:
    text = tables(WINDOWS, {"chunk": 3.0})
    assert "| resume" in text
    assert "+10%" in text
    assert "both" not in text
