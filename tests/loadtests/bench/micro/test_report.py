"""Names of growth rates, budgets, and the report's tables."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from loadtests.bench.micro import __main__ as micro
from loadtests.bench.micro.report import (
    BELOW_LINEAR,
    FLAT,
    LINEAR,
    LOGARITHMIC,
    Result,
    growth,
    merged,
    points,
    results,
    table,
    verdict,
)
from tests.fakes.each_case import each_case

BUDGETS = {100: 10.0, 1000: 60.0}


def result(size: int, best: float, median: float = 0.0, series: str = "p2c", group: str = "pick") -> Result:
    return Result(group, series, size, best, median or best, rounds=50)


@each_case(
    ("costs", "name"),
    [
        ([(10, 2.0), (100, 2.1), (1000, 2.6)], FLAT),
        ([(10, 1.0), (100, 2.0), (1000, 3.0)], LOGARITHMIC),
        ([(10, 1.0), (100, 3.2), (1000, 10.0)], BELOW_LINEAR),
        ([(10, 1.0), (100, 10.0), (1000, 100.0)], LINEAR),
        ([(10, 2.4), (100, 5.5), (1000, 36.0)], LINEAR),  # a constant dominates small sizes
        ([(10, 1.0)], ""),
    ],
)
def test_each_growth_rate_has_its_name(costs: list[tuple[float, float]], name: str) -> None:
    assert growth(costs) == name


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ([result(10, 99.0), result(100, 9.0), result(1000, 50.0)], "met"),
        ([result(100, 9.0, 12.0)], "met by the best round, not the median"),
        ([result(100, 9.0), result(1000, 61.0)], "**not met** (1k: 61.0 > 60.0)"),
        ([result(10, 99.0)], ""),
    ],
)
def test_the_worst_size_decides_over_a_budget(row: list[Result], says: str) -> None:
    assert verdict(row, BUDGETS) == says


def test_a_table_has_a_row_for_each_series_and_a_column_for_each_size() -> None:
    every = [result(1000, 3.0), result(100, 2.5, 5.0), result(100, 1.0, series="random")]
    assert table("pick", every).splitlines() == [
        "| us, best / median |    100 pods |     1k pods | grows | budget |",
        "|-------------------|------------:|------------:|------:|-------:|",
        "| p2c               | 2.50 / 5.00 | 3.00 / 3.00 |  flat |    met |",
        "| random            | 1.00 / 1.00 |             |       |    met |",
    ]


def test_of_several_passes_the_best_round_and_the_middle_median_count() -> None:
    slow, calm, other = result(10, 4.0, 8.0), result(10, 2.0, 3.0), result(10, 3.0, 4.0)
    (one,) = merged([[slow], [calm], [other]])
    assert one == Result("pick", "p2c", 10, 2.0, 4.0, rounds=150)


def test_results_come_in_microseconds_and_in_the_order_of_the_page() -> None:
    def benchmark(group: str, size: int) -> dict[str, object]:
        stats = {"min": 2e-6, "median": 3e-6, "rounds": 7}
        return {"group": group, "extra_info": {"series": "s", "size": size}, "stats": stats}

    found = results({"benchmarks": [benchmark("view", 10), benchmark("pick", 1000), benchmark("pick", 10)]})
    assert [(one.group, one.size) for one in found] == [("pick", 1000), ("pick", 10), ("view", 10)]
    assert found[0][3:] == (2.0, 3.0, 7)
    assert points("pick", found) == {"s": [(10, 2.0), (1000, 2.0)]}


def test_the_page_shows_the_figures_of_the_json() -> None:
    docs = Path(__file__).resolve().parents[4] / "docs"
    kept = json.loads((docs / "benchmarks/micro.json").read_text())
    every = [Result(**one) for one in kept.pop("results")]
    page = (docs / "benchmarks.md").read_text()
    assert micro.section(kept, every) in page
    for group in {one.group for one in every}:
        assert table(group, every) in page
