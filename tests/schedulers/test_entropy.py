from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schedulers import entropy
from tests.fakes.chance import five_deviations
from tests.fakes.scheduler_inputs import unhurried

COSTS = st.lists(st.sampled_from([0.0, 1.0, 2.5]), min_size=1, max_size=40)


def test_draws_are_the_outputs_of_splitmix64() -> None:
    # The published sequence for seed 1234567.
    assert [entropy.mix(1234567, salt) for salt in range(3)] == [
        6457827717110365317,
        3203168211198807973,
        9817491932198370423,
    ]


@unhurried
@given(st.integers(), st.integers(0, 1000))
def test_a_draw_is_64_bits_for_any_input(bits: int, salt: int) -> None:
    assert 0 <= entropy.mix(bits, salt) < 2**64


@unhurried
@given(st.integers(0, 2**64 - 1), st.integers(1, 10**6), st.integers(0, 20))
def test_an_index_is_inside_its_range(bits: int, n: int, salt: int) -> None:
    assert 0 <= entropy.index(bits, n, salt) < n


def test_indices_are_even_also_for_consecutive_bits() -> None:
    share = Counter(entropy.index(bits, 10) for bits in range(10_000))
    assert all(abs(share[at] - 1000) < five_deviations(10_000, 0.1) for at in range(10)), share


def test_two_salts_draw_independently() -> None:
    pairs = Counter((entropy.index(bits, 3, 0), entropy.index(bits, 3, 1)) for bits in range(9000))
    assert len(pairs) == 9
    assert all(abs(count - 1000) < five_deviations(9000, 1 / 9) for count in pairs.values()), pairs


@unhurried
@given(COSTS, st.integers(0, 2**64 - 1))
def test_least_finds_a_smallest_cost(costs: list[float], bits: int) -> None:
    assert costs[entropy.least(costs, bits)] == min(costs)


@pytest.mark.parametrize(
    ("costs", "ties"),
    [
        ([1.0, 1.0, 1.0, 1.0], {0, 1, 2, 3}),
        ([1.0, 9.0, 1.0, 1.0], {0, 2, 3}),
        ([9.0, 1.0, 9.0, 9.0, 9.0, 1.0, 9.0], {1, 5}),
    ],
    ids=["all", "most: darts", "few: a walk"],
)
def test_equal_costs_share_evenly_at_any_position(costs: list[float], ties: set[int]) -> None:
    draws = 1000 * len(ties)
    share = Counter(entropy.least(costs, bits) for bits in range(draws))
    assert set(share) == ties
    assert all(abs(count - 1000) < five_deviations(draws, 1 / len(ties)) for count in share.values()), share


def test_a_walk_decides_when_every_dart_misses() -> None:
    # Three of five are the cheapest, and these bits throw all eight darts at the other two.
    costs = [1.0, 9.0, 1.0, 9.0, 1.0]
    unlucky = next(
        bits for bits in range(10**6) if all(costs[entropy.index(bits, 5, throw)] == 9.0 for throw in range(8))
    )
    assert costs[entropy.least(costs, unlucky)] == 1.0


def test_a_best_cost_that_no_pod_has_is_an_error() -> None:
    with pytest.raises(ValueError, match="not in"):
        entropy.tied((1.0, 2.0), 3.0, 0)
