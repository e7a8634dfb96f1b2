"""Weighted means of any scores: for one pod, for all pods, and the highest."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schedulers.entropy import mix
from schedulers.weighing import Falling, Scores, Weighed, span_of
from tests.fakes.chance import five_deviations
from tests.fakes.each_case import each_case
from tests.fakes.scheduler_inputs import BITS, unhurried

FEW_VALUES = st.sampled_from([0.0, 0.1, 0.25, 0.5, 0.7, 1.0])
"""Few distinct scores, so that ties are common."""


@st.composite
def weighings(draw: st.DrawFn, most: int = 7) -> tuple[int, list[tuple[float, Scores]]]:
    """A number of pods, and the scores that up to five scorers give them, in every form."""
    count = draw(st.integers(1, most))
    column = st.lists(FEW_VALUES, min_size=count, max_size=count)
    forms: st.SearchStrategy[Scores] = st.one_of(
        column,
        FEW_VALUES,
        st.dictionaries(st.integers(0, count - 1), FEW_VALUES),
        column.map(lambda each: Falling(tuple(each), 1.0, 1.0)),
        column.map(lambda each: Falling(tuple(4 * number for number in each), 4.0, 4.0)),
    )
    return count, draw(st.lists(st.tuples(st.sampled_from([0.125, 0.3, 0.5]), forms), max_size=5))


def weighed(count: int, said: list[tuple[float, Scores]]) -> Weighed:
    weighed = Weighed(count)
    for share, scores in said:
        weighed.add(share, scores)
    return weighed


def plain(scores: Scores, at: int) -> float:
    """The score of one pod as a plain number."""
    if isinstance(scores, float):
        return scores
    if isinstance(scores, dict):
        return scores.get(at, 0.0)
    if isinstance(scores, Falling):
        return (scores.top - scores.column[at]) / scores.span
    return scores[at]


@unhurried
@given(case=weighings())
def test_the_weighted_score_is_the_sum_of_weighted_fractions(case: tuple[int, list[tuple[float, Scores]]]) -> None:
    count, said = case
    expected = [sum(share * plain(scores, at) for share, scores in said) for at in range(count)]
    assert weighed(count, said).all() == pytest.approx(expected)


@unhurried
@given(case=weighings())
def test_the_score_of_one_pod_equals_its_score_among_all(
    case: tuple[int, list[tuple[float, Scores]]],
) -> None:
    found = weighed(*case)
    assert [found.of(at) for at in range(case[0])] == found.all()


@unhurried
@given(case=weighings(), entropy=BITS)
def test_the_best_is_one_of_the_highest(case: tuple[int, list[tuple[float, Scores]]], entropy: int) -> None:
    found = weighed(*case)
    assert found.of(found.best(entropy)) == max(found.all())


@each_case(
    "said",
    [
        [],
        [(1.0, 0.5)],
        [(1.0, [0.5, 0.5, 0.1, 0.5])],
        [(0.5, [0.5, 0.25, 0.1, 0.5]), (0.5, Falling((3.0, 2.75, 3.0, 3.0), 4.0, 1.0))],
        [(0.5, [0.1, 0.1, 0.7, 0.1]), (0.5, {0: 1.0, 1: 1.0, 2: 0.2, 3: 1.0})],
        [(0.5, [0.5, 0.5, 0.1, 0.25]), (0.5, {3: 0.25, 2: 0.1})],
    ],
    ids=["no scores", "one for all", "a column", "two", "few above the rest", "few and others alike"],
)
def test_equal_pods_are_equally_likely(said: list[tuple[float, Scores]]) -> None:
    found = weighed(4, said)
    highest = [at for at in range(4) if found.of(at) == max(found.all())]
    assert len(highest) > 1
    taken = Counter(found.best(mix(5, number)) for number in range(2000))
    assert sorted(taken) == highest
    assert all(
        abs(count - 2000 / len(highest)) < five_deviations(2000, 1 / len(highest)) for count in taken.values()
    ), taken


@pytest.mark.parametrize("columns", [1, 2])
def test_scores_that_are_not_numbers_are_an_error(columns: int) -> None:
    nothing = weighed(2, [(1.0, [float("nan")] * 2)] * columns)
    with pytest.raises(ValueError, match="no score is a number"):
        nothing.best(0)


@pytest.mark.parametrize("column", [(3.0,), (1.0, 2.0, 3.0), (3.0, 1.0, 2.0), (2.0, 2.0)])
def test_a_span_is_from_the_least_to_the_most(column: tuple[float, ...]) -> None:
    assert span_of(column) == (min(column), max(column))
