"""Goals are shown beside what was found."""

from __future__ import annotations

from loadtests.report.goals import Goal, goal_table


def test_a_goal_is_met_at_its_bound() -> None:
    assert Goal("it", 1.0, 1.0, True).met and Goal("it", 1.0, 1.0, False).met
    assert not Goal("it", 1.1, 1.0, True).met
    assert not Goal("it", 0.9, 1.0, False).met


def test_goals_are_shown_beside_the_results() -> None:
    _, _, first, second = goal_table([Goal("it", 1.2, 1.0, True), Goal("that", 1.2, 1.0, False)]).splitlines()
    assert "1.20" in first and "at most 1" in first and "MISSED" in first
    assert "at least 1" in second and " met " in second
