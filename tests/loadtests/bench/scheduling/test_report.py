"""The report has the results in order, and nothing about cases that were not run."""

from __future__ import annotations

from loadtests.bench.scheduling.cases import NOTHING, ONE, OURS, SMOKE
from loadtests.bench.scheduling.goals import Goal
from loadtests.bench.scheduling.play import Rows
from loadtests.bench.scheduling.report import Found, as_json, document, goal_table, readme_block
from loadtests.sim.simulate.summary import Row, Spread

ABOUT = {"command": "make bench-scheduling", "seed": "7", "commit": "abc"}


def row(policy: str, mean: float) -> Row:
    ttft = Spread(mean, mean, mean, 2 * mean)
    return Row(policy, ttft, Spread(), Spread(), 0.25, 1.0, ttft, 0.5, 10, 0, [])


def found(rows: Rows) -> Found:
    return Found(ABOUT, SMOKE, rows, None, [Goal("it", 1.2, 1.0, True), Goal("that", 1.2, 1.0, False)])


MEANS = {"lmetric": 3.0, OURS: 2.0, "oracle": 1.0}
POLICIES = {("policies", "2.0", name): row(name, mean) for name, mean in MEANS.items()}


def test_goals_are_shown_beside_the_results() -> None:
    _, _, first, second = goal_table(found({}).goals).splitlines()
    assert "1.20" in first and "at most 1" in first and "MISSED" in first
    assert "at least 1" in second and " met " in second


def test_policies_are_ordered_by_mean_with_ratios_to_the_oracle_and_to_this_gateways_policy() -> None:
    text = document(found(POLICIES))
    lines = {line.split("|")[1].strip(): line for line in text.splitlines() if line.startswith("|") and "25.0%" in line}
    assert list(lines) == ["oracle", f"**{OURS}**", "lmetric"]
    assert [cell.strip() for cell in lines["lmetric"].split("|")[-3:-1]] == ["3.00", "1.50"]
    assert "## Herding" not in text


def test_replicas_are_ordered_by_number_and_age_with_nothing_shared_last() -> None:
    labels = [f"8 x {NOTHING}", "8 x 50 ms", ONE, "8 x 5 ms"]
    text = document(found({("herding", label, OURS): row(OURS, 1.0) for label in labels}))
    cells = [line.split("|")[1].strip() for line in text.splitlines() if "25.0%" in line]
    assert cells == [ONE, "8 x 5 ms", "8 x 50 ms", f"8 x {NOTHING}"]
    assert "## Conversations" not in text


def test_the_readme_names_command_seed_and_commit() -> None:
    text = readme_block(found(POLICIES))
    assert all(value in text for value in ABOUT.values())
    assert "util 0.50" in text
    assert "2.00 (4.0)" in text


def test_a_program_reads_every_row() -> None:
    data = as_json(found(POLICIES))
    assert {each["policy"]: each["ttft_s"]["mean"] for each in data["rows"]} == MEANS
    assert [each["met"] for each in data["goals"]] == [False, True]
