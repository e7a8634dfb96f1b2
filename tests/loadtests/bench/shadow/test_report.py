"""The table of the cost of trials."""

from __future__ import annotations

from pathlib import Path

from loadtests.bench.shadow.measure import MODES, Window
from loadtests.bench.shadow.report import added_us, as_json, page, table


def window(mode: str, round_: int, cpu_us: float) -> Window:
    return Window(mode, round_, 1000, 5000.0, cpu_us, 1.5, 3.0, 0)


# Each round is busier than the one before; a shadow adds 1 us in each.
WINDOWS = [
    window(mode, number, 100.0 + 10 * number + extra)
    for number in range(1, 6)
    for mode, extra in zip(MODES, (0.0, 1.0, 2.0, 3.0), strict=True)
]


def test_the_added_cost_is_the_difference_within_a_round() -> None:
    assert added_us(WINDOWS, "shadow") == [1.0] * 5


def test_each_trial_has_a_row() -> None:
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in table(WINDOWS).splitlines()[2:]]
    assert len(rows) == len(MODES)
    assert rows[0][1:4] == ["130.00", "", ""]
    assert rows[1][2:] == ["+1.00 (+1.00 to +1.00)", "+0.8%", "1.50 / 3.00", "0"]


def test_an_incomplete_round_is_left_out() -> None:
    assert added_us([*WINDOWS, window("shadow", 6, 999.0)], "shadow") == [1.0] * 5


def test_the_page_names_its_command_and_the_json_has_every_window(tmp_path: Path) -> None:
    text = page({"cpu": "x"}, WINDOWS)
    assert "5 rounds" in text and "make bench-shadow" in text and "| cpu     | x |" in text
    assert len(as_json({}, WINDOWS)["windows"]) == len(WINDOWS)
