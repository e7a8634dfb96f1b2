"""The tables of the suite: the worst workload first, the best policy first."""

from __future__ import annotations

from loadtests.bench.scheduling.cases import OURS, OURS_SHARED
from loadtests.bench.scheduling.regret import SUITE, Rows, Suite
from loadtests.bench.scheduling.report_suite import policy_table, standings, suite_sections, workload_table
from loadtests.bench.scheduling.suite import PAST, Point
from loadtests.sim.simulate.summary import Row, Spread

POINTS = [Point(name, 8, load) for name in ("rag", "agentic") for load in (0.9, PAST)]
SUITE_PLAYED = Suite(POINTS, (0.9, PAST), {"rag": 2.0, "agentic": 0.1})
MEANS = {OURS: 1.1, OURS_SHARED: 1.2, "oracle": 1.0, "lmetric": 2.0}


def row(policy: str, mean: float) -> Row:
    ttft = Spread(mean, mean, mean, 2 * mean)
    return Row(policy, ttft, Spread(), Spread(), 0.25, 1.0, ttft, 0.5, 10, 0, [])


def rows() -> Rows:
    found = {}
    for point in POINTS:
        for policy, mean in MEANS.items():
            worse = 1.5 if point.workload == "agentic" and policy == OURS else 1.0
            found[SUITE, str(point), policy] = row(policy, mean * worse)
    return found


def test_the_worst_workload_is_first_with_its_regrets_and_the_load_it_held() -> None:
    lines = [
        [cell.strip() for cell in line.split("|")[1:-1]] for line in workload_table(rows(), SUITE_PLAYED).splitlines()
    ]
    first, second = lines[2:]
    assert first == ["agentic, 8 pods", "", "", "1.65", "oracle", "1.65", "1.20", "1.65", "+0.0", "< 0.9"]
    assert second == ["rag, 8 pods", "", "", "1.10", "oracle", "1.10", "1.20", "1.10", "+0.0", "1.15"]


def test_policies_are_ordered_by_their_typical_regret() -> None:
    found = standings(rows(), SUITE_PLAYED)
    assert [each.policy for each in found] == ["oracle", OURS_SHARED, OURS, "lmetric"]
    table = policy_table(rows(), SUITE_PLAYED, 2)
    assert f"| **{OURS_SHARED}** |" in table and "lmetric" not in table


def test_both_tables_have_a_heading() -> None:
    text = "\n".join(suite_sections(rows(), SUITE_PLAYED))
    assert text.count("## Regret") == 2
