"""Draws have the distributions their names say, and the seed decides them."""

from __future__ import annotations

from itertools import islice, pairwise
from random import Random
from statistics import mean, pstdev

import pytest

from loadtests.sim.simulate.traces import Arrival
from loadtests.sim.workloads.drawing import (
    UNIT_TOKENS,
    Zipf,
    chained,
    exponential,
    fresh,
    gamma_times,
    in_order,
    lognormal,
)


def test_the_first_ranks_of_zipf_are_drawn_as_often_as_their_share() -> None:
    zipf, rng = Zipf(1000, 1.0), Random(1)
    drawn = [zipf.draw(rng) for _ in range(20_000)]
    assert 0 <= min(drawn) and max(drawn) < 1000
    assert sum(rank < 30 for rank in drawn) / len(drawn) == pytest.approx(zipf.share(30), abs=0.02)


@pytest.mark.parametrize("cv", [1.0, 3.0])
def test_gamma_gaps_have_the_rate_and_the_variation(cv: float) -> None:
    moments = list(islice(gamma_times(Random(2), 10.0, cv), 30_000))
    gaps = [after - before for before, after in pairwise(moments)]
    assert mean(gaps) == pytest.approx(0.1, rel=0.1)
    assert pstdev(gaps) / mean(gaps) == pytest.approx(cv, rel=0.1)


def test_lengths_have_their_mean_and_bounds() -> None:
    rng = Random(3)
    lengths = [lognormal(rng, 1000, 0.5, 10, 100_000) for _ in range(20_000)]
    assert mean(lengths) == pytest.approx(1000, rel=0.05)
    assert {lognormal(rng, 1000, 0.5, 2000, 2000) for _ in range(10)} == {2000}
    assert mean(exponential(rng, 100) for _ in range(20_000)) == pytest.approx(100, rel=0.05)
    assert max(exponential(rng, 1000, 300) for _ in range(100)) == 300


def test_texts_share_units_only_behind_the_same_prefix() -> None:
    tokens = 3 * UNIT_TOKENS
    assert chained(0, 7, tokens) == chained(0, 7, tokens)
    assert set(chained(0, 7, tokens)).isdisjoint(chained(1, 7, tokens))
    assert set(chained(0, 7, tokens)).isdisjoint(chained(0, 8, tokens))
    rng = Random(4)
    assert set(fresh(rng, tokens)).isdisjoint(fresh(rng, tokens))


def test_a_trace_begins_at_zero_in_order() -> None:
    trace = in_order("t", [Arrival(5.0, 1, 1), Arrival(3.0, 2, 1)])
    assert [(each.at_s, each.prompt_tokens) for each in trace.arrivals] == [(0.0, 2), (2.0, 1)]
    assert in_order("t", []).arrivals == []
