"""Which pod each picker takes, and how often."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schedulers.entropy import mix
from schedulers.pickers.best import Best
from schedulers.pickers.top_k import TopK
from schedulers.pickers.weighted import Weighted
from schedulers.profile import PICKERS
from schedulers.protocols import Picker
from tests.fakes.chance import five_deviations
from tests.fakes.scheduler_inputs import BITS, unhurried, weighed

every_picker = pytest.mark.parametrize("picker", [kind() for kind in PICKERS.values()], ids=list(PICKERS))


def check_shares(picker: Picker, scores: list[float], expected: list[float], draws: int = 4000) -> None:
    """The picker takes each about as often as expected, as a share of the draws."""
    found = weighed(scores)
    taken = Counter(picker.pick(found, mix(11, number)) for number in range(draws))
    for at, (_, share) in enumerate(zip(scores, expected, strict=True)):
        assert abs(taken[at] - share * draws) <= five_deviations(draws, share), taken


def unmixed(drawn: int, salt: int) -> int:
    """The bits whose draw number `salt` is this value: splitmix64 backwards."""
    z = drawn
    for shift, factor in ((31, 0x94D049BB133111EB), (27, 0xBF58476D1CE4E5B9)):
        z = (z ^ z >> shift ^ z >> 2 * shift) * pow(factor, -1, 2**64) % 2**64
    return (z ^ z >> 30 ^ z >> 60) - (salt + 1) * 0x9E3779B97F4A7C15 & 2**64 - 1


@every_picker
@unhurried
@given(scores=st.lists(st.floats(0.0, 1.0), min_size=1, max_size=12), entropy=BITS)
def test_it_takes_one_of_the_scored(picker: Picker, scores: list[float], entropy: int) -> None:
    assert picker.pick(weighed(scores), entropy) in range(len(scores))


@every_picker
def test_its_name_is_its_key_in_the_table(picker: Picker) -> None:
    assert PICKERS[picker.name] is type(picker)


@every_picker
@pytest.mark.parametrize("score", [0.0, 0.5])
def test_equal_scores_are_taken_equally_often(picker: Picker, score: float) -> None:
    check_shares(picker, [score] * 5, [0.2] * 5)


def test_best_takes_the_highest_and_ties_by_the_bits() -> None:
    check_shares(Best(), [0.2, 0.9, 0.1, 0.9], [0.0, 0.5, 0.0, 0.5])


@pytest.mark.parametrize(
    ("power", "expected"), [(1.0, [0.1, 0.2, 0.7, 0.0]), (2.0, [1 / 54, 4 / 54, 49 / 54, 0.0]), (0.0, [0.25] * 4)]
)
def test_weighted_takes_in_proportion(power: float, expected: list[float]) -> None:
    check_shares(Weighted(power), [0.1, 0.2, 0.7, 0.0], expected)


@unhurried
@given(entropy=BITS)
def test_weighted_never_takes_a_score_of_0(entropy: int) -> None:
    assert Weighted().pick(weighed([0.0, 1e-300, 0.0]), entropy) == 1


def test_weighted_with_the_highest_bits_takes_the_last() -> None:
    highest = unmixed(2**64 - 1, 24)
    assert mix(highest, 24) == 2**64 - 1
    assert Weighted().pick(weighed([0.1] * 10), highest) == 9


@pytest.mark.parametrize(
    ("k", "expected"),
    [
        (1, [0.0, 1.0, 0.0, 0.0, 0.0]),
        (2, [0.25, 0.5, 0.25, 0.0, 0.0]),
        (3, [1 / 3, 1 / 3, 1 / 3, 0.0, 0.0]),
        (99, [0.2] * 5),
    ],
)
def test_top_k_takes_the_k_best_equally_often_and_shares_the_last_place(k: int, expected: list[float]) -> None:
    check_shares(TopK(k), [0.5, 0.9, 0.5, 0.2, 0.1], expected)
