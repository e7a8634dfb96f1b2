"""Each figure of `best` is the best of any row."""

from __future__ import annotations

import pytest

from loadtests.sim.simulate.best import BEST, envelope
from loadtests.sim.simulate.summary import Goodput, Row, Spread


def row(policy: str, mean: float, p99: float, hit_rate: float, goodput: float | None = None, lost: int = 0) -> Row:
    spread = Spread(mean, mean / 2, 2 * mean, p99)
    levels = [] if goodput is None else [Goodput(1, 20, goodput, goodput, lost), Goodput(0, 80, 1 - goodput, 1.0, 0)]
    return Row(
        policy,
        spread,
        spread,
        spread,
        hit_rate,
        1.0 + mean,
        spread,
        mean,
        100 - lost,
        0,
        [],
        lost,
        3,
        0,
        goodput,
        levels,
    )


def test_times_and_failures_are_the_lowest_of_all_rows_and_hits_the_most_of_a_peer() -> None:
    found = envelope([row("a", 1.0, 9.0, 0.3, lost=2), row("b", 2.0, 5.0, 0.4), row("oracle", 1.5, 6.0, 0.9)])
    assert found.policy == BEST
    assert found.ttft_s == found.ttft_short_s == found.e2e_s == Spread(1.0, 0.5, 2.0, 5.0)
    assert (found.hit_rate, found.load_imbalance) == (0.4, 2.0)
    assert (found.requests, found.lost, found.retried) == (100, 0, 3)
    assert found.goodput is None


def test_the_hits_of_the_oracle_alone_are_its_own() -> None:
    assert envelope([row("oracle", 1.0, 9.0, 0.3)]).hit_rate == 0.3


def test_goodput_is_the_highest_at_each_priority() -> None:
    found = envelope([row("a", 1.0, 9.0, 0.3, 0.4, lost=2), row("b", 2.0, 5.0, 0.4, 0.7)])
    assert found.goodput == 0.7
    high, low = found.goodput_by_priority
    assert (high.priority, high.met, high.unserved) == (1, 0.7, 0)
    assert low.met == pytest.approx(0.6)
