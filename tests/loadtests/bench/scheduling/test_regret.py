"""Regret is against the best of the others, figure by figure."""

from __future__ import annotations

import pytest

from loadtests.bench.scheduling.regret import SUITE, Regret, by_workload, held, past, regret, regrets, typical, under
from loadtests.bench.scheduling.suite import PAST, Point
from loadtests.sim.simulate.summary import Row, Spread

AT = Point("rag", 8, 0.9)


def row(policy: str, mean: float, p99: float = 1.0, hits: float = 0.3, p90: float = 1.0) -> Row:
    ttft = Spread(mean, mean, p90, p99)
    return Row(policy, ttft, Spread(), Spread(), hits, 1.0, ttft, 0.5, 10, 0, [])


def rows(*found: Row, point: Point = AT) -> dict[tuple[str, str, str], Row]:
    return {(SUITE, str(point), each.policy): each for each in found}


def test_the_best_mean_and_the_best_p99_may_be_of_two_policies() -> None:
    found = regret(rows(row("mine", 1.2, 6.0), row("oracle", 1.0, 8.0), row("lmetric", 1.1, 5.0)), AT, "mine")
    assert found is not None
    assert (found.mean, found.p99) == pytest.approx((1.2, 1.2))
    assert found.best == "oracle"


def test_hits_are_compared_with_the_best_peer_and_not_with_the_oracle() -> None:
    found = regret(
        rows(row("mine", 1, hits=0.30), row("oracle", 1, hits=0.5), row("lmetric", 1, hits=0.25)), AT, "mine"
    )
    assert found is not None and found.hits == pytest.approx(0.05)


def test_a_peer_is_compared_with_the_others_and_may_be_better_than_all() -> None:
    found = regret(rows(row("oracle", 1.0), row("lmetric", 2.0)), AT, "oracle")
    assert found is not None and found.mean == 0.5


def test_other_policies_of_the_gateway_are_not_among_the_best() -> None:
    found = regret(rows(row("mine", 2.0), row("least_load", 0.5), row("oracle", 1.0)), AT, "mine")
    assert found is not None and found.mean == 2.0


def test_a_point_that_was_not_played_has_no_regret() -> None:
    assert regret({}, AT, "mine") is None
    assert regrets(rows(row("mine", 1.0)), [AT, AT._replace(load=0.5)], "mine") == []


def test_points_are_sorted_by_load_and_workload() -> None:
    found = [
        Regret(Point(name, 8, load), "mine", 1.0, 1.0, 0.0, "oracle") for name in ("a", "b") for load in (0.5, PAST)
    ]
    assert [each.point.load for each in under(found)] == [0.5, 0.5]
    assert [each.point.load for each in past(found)] == [PAST, PAST]
    assert {key: len(each) for key, each in by_workload(found).items()} == {("a", 8): 2, ("b", 8): 2}


def test_the_typical_ratio_is_the_geometric_mean() -> None:
    found = [Regret(AT, "mine", mean, 1.0, 0.0, "oracle") for mean in (0.5, 2.0)]
    assert typical(found, lambda each: each.mean) == pytest.approx(1.0)
    assert typical([], lambda each: each.mean) == 0.0


def test_the_highest_load_held_is_the_last_with_its_p90_within_the_limit() -> None:
    found: dict[tuple[str, str, str], Row] = {}
    for load, p90 in ((0.9, 1.0), (1.0, 1.9), (1.1, 2.1)):
        found |= rows(row("mine", 1.0, p90=p90), point=Point("rag", 8, load))
    assert held(found, "rag", "mine", (0.9, 1.0, 1.1, 1.2), 2.0) == 1.0
    assert held(found, "rag", "mine", (0.9, 1.0, 1.1, 1.2), 0.5) == 0.0
