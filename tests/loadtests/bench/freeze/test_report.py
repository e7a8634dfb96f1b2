from __future__ import annotations

from loadtests.bench.freeze.report import Row, Window, as_json, table, window
from loadtests.bench.load.tally import Tally

QUIET = Window(20.0, 21.0, 25.0, 100, 0, 0)


def cells(text: str) -> list[str]:
    """The cells of the last row."""
    return [cell.strip() for cell in text.splitlines()[-1].strip("|").split("|")]


def test_the_change_is_the_median_of_pairs() -> None:
    quiet = [QUIET, QUIET._replace(p99_ms=90.0), QUIET]
    disturbed = [QUIET._replace(p99_ms=99, happened=1), QUIET._replace(p99_ms=93.0), QUIET._replace(p99_ms=24.5)]
    row = Row("c", "title", quiet, disturbed)
    assert row.moved_ms == 3.5
    assert cells(table([row])) == ["title", "20.0 / 21.0 / 25.0", "20.0 / 93.0 / 25.0", "+3.5", "met", "0"]


def test_a_missed_goal_and_cut_streams_are_reported() -> None:
    row = Row("c", "title", [QUIET], [QUIET._replace(p99_ms=26.5, max_ms=140.0, cut=2, happened=3)])
    assert cells(table([row]))[-4:] == ["20.0 / 26.5 / 140.0", "+5.5", "MISSED", "2"]
    found = as_json({"pods": 7}, [row])
    assert (found["pods"], found["cases"]["c"]["p99_moved_ms"], found["cases"]["c"]["cut"]) == (7, 5.5, 2)


def test_a_window_is_a_tally() -> None:
    tally = Tally()
    for gap_s in (0.02, 0.02, 0.3):
        tally.gap(gap_s, 1)
    tally.failed, tally.bad_status = 1, 2
    found = window(tally, 5)
    assert (found.chunks, found.cut, found.happened, round(found.max_ms)) == (3, 3, 5, 300)
    assert (round(found.p50_ms), round(found.p99_ms)) == (20, 300)
