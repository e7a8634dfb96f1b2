"""What the figures say of requests as their clients saw them. `tests/e2e/test_fairness.py` plays the cases."""

from __future__ import annotations

from pathlib import Path

from loadtests.bench.fairness.__main__ import goals, tables
from loadtests.bench.fairness.cases import Beside, Overload, ended_per_s, hit_rate, p99, tokens_per_s
from loadtests.bench.fairness.fleet import Fleet, Received, settings, write_keys
from loadtests.processes.replica import Slot

RECEIVED = [
    Received("t0", 0.0, 0.0, 200, 0.2, 1.0, 100, 50, 10, ""),
    Received("t1", 6.0, 0.0, 200, 0.4, 7.0, 100, 90, 10, ""),
    Received("big", 6.0, 0.0, 200, 9.0, 16.0, 200, 0, 40, ""),
    Received("t0", 7.0, 0.0, 429, 0.0, 7.0, 0, 0, 0, "http_429"),
]


def test_figures_count_complete_answers_of_who_is_asked_for() -> None:
    assert (p99(RECEIVED), p99(RECEIVED, until_s=5.0)) == (0.4, 0.2)
    assert hit_rate(RECEIVED) == 140 / 400
    assert tokens_per_s(RECEIVED, "big", 10.0, 20.0) == 24.0
    assert ended_per_s(RECEIVED, 0.0, 8.0) == 2 / 8


def test_each_goal_is_held_against_its_case() -> None:
    runs = ("alone", "fair", "unfair")
    times, rates, none = dict(zip(runs, (1.0, 1.1, 9.0), strict=True)), dict.fromkeys(runs, 0.7), dict.fromkeys(runs, 0)
    four = Beside(times, times, rates, none, none, 0.0)
    found = {"beside": four, "shares": {"a": 95.0, "b": 105.0}, "overload": Overload(10.0, 9.5, 100, 3.0, 300.0)}
    assert all(goal.met for goal in goals(found))
    assert "| a " in tables(found)
    assert not all(goal.met for goal in goals({"shares": {"a": 80.0, "b": 120.0}}))
    assert goals({}) == []


def test_gateways_know_the_tenants_only_where_the_queue_is_to_be_fair(tmp_path: Path) -> None:
    fleet, slot = Fleet(["a", "b"], places=7), Slot("r0", 1, 2)
    keys = write_keys(tmp_path / "keys.json", fleet.tenants)
    fair = settings(fleet, slot, "redis://x", ["http://pod"], keys)
    assert [each["name"] for each in fair["tenants"]] == ["a", "b"]
    assert fair["pools"][0]["max_inflight_per_pod"] == 7
    assert "key-a" not in keys.read_text()
    assert {"auth", "tenants"}.isdisjoint(settings(fleet, slot, "redis://x", ["http://pod"], None))
