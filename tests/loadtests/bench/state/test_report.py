"""The figures of `make bench-state`: the delay of each time stamp, and missed goals."""

from __future__ import annotations

import json

from loadtests.bench.state.report import Table, as_json, delays, document, markdown, misses, number


def test_a_dispatch_is_visible_when_it_or_a_later_one_to_the_pod_first_arrives() -> None:
    sent = [(0, 1, 10.0), (0, 2, 10.5), (1, 1, 10.25), (0, 3, 11.0)]
    received = [(1, 1, 10.5), (0, 2, 11.0), (0, 2, 12.0)]
    assert delays(sent, received) == ([0.25, 0.5, 1.0], 1)
    assert delays(sent, []) == ([], 4)


TABLE = Table(
    "Load",
    "Two replicas.",
    {
        "10 req/s": {"round trips/s": 40.0, "seen p99 ms": None, "CPU us/request": 1234.5},
        "1000 req/s": {"round trips/s": 600.0, "seen p99 ms": 15.1, "CPU us/request": 0.05},
    },
)


def test_a_goal_is_missed_only_above_its_bound() -> None:
    assert misses(TABLE) == ["Load, 1000 req/s: seen p99 ms 15.1, goal 15"]


def test_the_table_has_the_goals_beside_the_figures() -> None:
    assert markdown(TABLE).splitlines()[4:] == [
        "|                | 10 req/s | 1000 req/s |   goal |",
        "|----------------|---------:|-----------:|-------:|",
        "| round trips/s  |       40 |        600 | <= 600 |",
        "| seen p99 ms    |        - |       15.1 |  <= 15 |",
        "| CPU us/request |    1,234 |      0.050 |        |",
    ]


def test_the_page_begins_with_the_missed_goals() -> None:
    page = document({"cores": "2"}, [TABLE])
    assert "**Goals missed:** Load, 1000 req/s: seen p99 ms 15.1, goal 15." in page
    assert "| cores   | 2 |" in page
    kept = TABLE._replace(columns={"10 req/s": TABLE.columns["10 req/s"]})
    assert "All goals are met." in document({}, [kept])


def test_the_json_has_every_figure_in_full_precision() -> None:
    found = json.loads(json.dumps(as_json({"cores": "2"}, [TABLE])))
    assert found["tables"]["Load"]["1000 req/s"]["CPU us/request"] == 0.05
    assert found["missed"] == misses(TABLE)


def test_numbers_are_rounded_to_two_or_three_digits() -> None:
    assert [number(value) for value in (None, 0.0, 5000.0, 131.4, 24.31, 4.034, 0.1, 0.0264)] == [
        *("-", "0", "5,000", "131", "24.3", "4.03", "0.10", "0.026"),
    ]
