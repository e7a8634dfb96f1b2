"""The histogram of durations: its resolution, and sums of histograms."""

from __future__ import annotations

import random

import pytest

from router.trials import durations
from router.trials.durations import BUCKETS, GROWTH, Durations, added, bucket_of, lower_edge, middle, quantile, ranked


@pytest.mark.parametrize("seconds", [2e-7, 1e-6, 0.00123, 0.05, 0.3, 1.0, 59.9, 3000.0])
def test_a_duration_lies_between_the_edges_of_its_bucket(seconds: float) -> None:
    at = bucket_of(seconds)
    assert lower_edge(at) <= seconds * (1 + 1e-9)
    assert seconds <= lower_edge(at) * GROWTH * (1 + 1e-9)
    assert middle(at) == pytest.approx(seconds, rel=0.026)


@pytest.mark.parametrize(("seconds", "at"), [(0.0, 0), (-1.0, 0), (1e-9, 0), (1e9, BUCKETS - 1)])
def test_a_duration_out_of_range_counts_in_the_first_or_the_last_bucket(seconds: float, at: int) -> None:
    assert bucket_of(seconds) == at


def test_quantiles_are_within_one_bucket_of_the_true_values() -> None:
    rng = random.Random(7)
    values = sorted(rng.lognormvariate(-2.0, 1.0) for _ in range(5000))
    seen = Durations()
    for value in values:
        seen.observe(value)
    for q in (0.05, 0.5, 0.95, 0.99):
        assert middle(quantile(seen.counts, q)) == pytest.approx(values[int(q * 5000) - 1], rel=0.03)
    assert seen.sum_s == pytest.approx(sum(values))
    assert seen.squares == pytest.approx(sum(value * value for value in values))


def test_the_sum_of_two_histograms_is_the_histogram_of_both() -> None:
    one, other, both = Durations(), Durations(), Durations()
    for seconds, of in [(0.1, one), (0.1, other), (0.2, other), (7.0, one)]:
        of.observe(seconds)
        both.observe(seconds)
    assert added(one.counts, other.counts) == both.counts
    assert durations.total(both.counts) == 4


def test_a_rank_past_the_last_is_refused() -> None:
    assert ranked({3: 2, 5: 1}, 2) == 3
    assert ranked({3: 2, 5: 1}, 3) == 5
    with pytest.raises(ValueError, match="3 durations"):
        ranked({3: 2, 5: 1}, 4)
