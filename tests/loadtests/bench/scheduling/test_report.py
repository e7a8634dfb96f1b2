"""The report has the results in order, and nothing about cases that were not run."""

from __future__ import annotations

from loadtests.bench.scheduling.cases import NOTHING, ONE, OURS, SMOKE
from loadtests.bench.scheduling.regret import SUITE, Rows, Suite
from loadtests.bench.scheduling.report import Found, as_json, document, readme_block
from loadtests.bench.scheduling.suite import Point
from loadtests.report.goals import Goal
from loadtests.sim.simulate.summary import Row, Spread

ABOUT = {"command": "make bench-scheduling", "seed": "7", "commit": "abc"}


def row(policy: str, mean: float) -> Row:
    ttft = Spread(mean, mean, mean, 2 * mean)
    return Row(policy, ttft, Spread(), Spread(), 0.25, 1.0, ttft, 0.5, 10, 0, [])


NO_SUITE = Suite([])


def found(rows: Rows, suite: Suite = NO_SUITE) -> Found:
    return Found(ABOUT, SMOKE, suite, rows, None, [Goal("it", 1.2, 1.0, True), Goal("that", 1.2, 1.0, False)])


MEANS = {"lmetric": 3.0, OURS: 2.0, "oracle": 1.0}
POINT = Point("rag", 8, 0.9)
PLAYED = Suite([POINT], (), {"rag": 2.0})
POLICIES = {(SUITE, str(POINT), name): row(name, mean) for name, mean in MEANS.items()}


def test_whole_traces_have_their_policies_ordered_by_mean() -> None:
    text = document(found({("whole", "agentic x 2", name): row(name, mean) for name, mean in MEANS.items()}))
    lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines() if "agentic x 2" in line]
    assert [cells[1:3] for cells in lines] == [["oracle", "1.00"], [f"**{OURS}**", "2.00"], ["lmetric", "3.00"]]
    assert "## Herding" not in text and "## Regret" not in text


def test_replicas_are_ordered_by_number_and_age_with_nothing_shared_last() -> None:
    labels = [f"8 x {NOTHING}", "8 x 50 ms", ONE, "8 x 5 ms"]
    text = document(found({("herding", label, OURS): row(OURS, 1.0) for label in labels}))
    cells = [line.split("|")[1].strip() for line in text.splitlines() if "25.0%" in line]
    assert cells == [ONE, "8 x 5 ms", "8 x 50 ms", f"8 x {NOTHING}"]
    assert "## Whole" not in text


def test_the_readme_names_command_seed_and_commit() -> None:
    text = readme_block(found(POLICIES, PLAYED))
    assert all(value in text for value in ABOUT.values())
    assert "2 workloads, 8 simulated pods" in text
    assert f"| **{OURS}** " in text


def test_a_program_reads_every_row() -> None:
    data = as_json(found(POLICIES, PLAYED))
    assert {each["policy"]: each["ttft_s"]["mean"] for each in data["rows"]} == MEANS
    assert data["saturation"]["rag"]["limit_s"] >= 2.0
    assert [each["met"] for each in data["goals"]] == [False, True]
