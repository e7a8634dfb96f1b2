"""The weighted mean of several scorers' scores: of every pod, or only the highest. Knows no scorer and no pod.

Apart from `profile.py` so that mypyc can compile it: a mean then costs 10 ns a pod, and 40 if it is kept in a list.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from schedulers import entropy as rng


class Falling(NamedTuple):
    """Scores that fall along a column: `(top - each) / span`, computed only where needed."""

    column: tuple[float, ...]
    top: float
    span: float
    """Not 0."""


Scores = Falling | Sequence[float] | dict[int, float] | float
"""0 to 1: for each candidate, in their order; or by position for some, 0 for the rest; or one number for all."""

_Column = tuple[float, tuple[float, ...], float, float]
"""A weight, and the column, top and span of a `Falling`."""

_LEAN: Final = 3
"""Columns added up at once, without a list in between: those of the default `profile`."""


class Weighed:
    """The scores of `count` candidates by several scorers, each with its share of all weights."""

    __slots__ = ("_columns", "_few", "_same", "count")

    def __init__(self, count: int) -> None:
        """All candidates are at 0."""
        self.count = count
        self._same = 0.0
        self._columns: list[_Column] = []
        self._few: list[tuple[float, dict[int, float]]] = []

    def add(self, share: float, scores: Scores) -> None:
        """Add one scorer's scores; `share` is not negative."""
        if isinstance(scores, float):
            self._same += share * scores
        elif isinstance(scores, dict):
            self._few.append((share, scores))
        elif isinstance(scores, Falling):
            self._columns.append((share, scores.column, scores.top, scores.span))
        else:
            self._columns.append((share, tuple(scores), 0.0, -1.0))

    def of(self, at: int) -> float:
        """The mean of the candidate at this position."""
        mean = self._same
        for share, column, top, span in self._columns:
            mean += share * ((top - column[at]) / span)
        for share, few in self._few:
            mean += share * few.get(at, 0.0)
        return mean

    def all(self) -> list[float]:
        """The mean of each candidate."""
        columns = self._columns
        means = _sums(self._same, *_three(columns)) if columns else [self._same] * self.count
        for share, column, top, span in columns[_LEAN:]:
            means = [mean + share * ((top - each) / span) for mean, each in zip(means, column, strict=True)]
        for share, few in self._few:
            for at, score in few.items():
                means[at] += share * score
        return means

    def best(self, entropy: int) -> int:
        """The position of the highest mean; of equal ones, each is equally likely."""
        if not self._columns or len(self._columns) > _LEAN:
            means = self.all()
            return rng.tied(means, max(means), entropy)
        same, (first, second, third) = self._same, _three(self._columns)
        most, ties = _highest(same, first, second, third)
        if self._few:
            # These scores only raise the means of those few: the highest of the others stays the highest.
            some = {at: self.of(at) for _, few in self._few for at in few}
            above = max(some.values(), default=-1.0)
            if above > most:
                tied = sorted([at for at, mean in some.items() if mean == above])
                return tied[rng.index(entropy, len(tied))]
            if above == most:
                return rng.tied(self.all(), most, entropy)
        return _find(same, first, second, third, most, rng.index(entropy, ties))


def _three(columns: list[_Column]) -> tuple[_Column, _Column, _Column]:
    """The first three; each missing one is replaced by one that adds 0."""
    nothing = (0.0, columns[0][1], 0.0, 1.0)
    second = columns[1] if len(columns) > 1 else nothing
    return columns[0], second, columns[2] if len(columns) > 2 else nothing


def _sums(same: float, first: _Column, second: _Column, third: _Column) -> list[float]:
    p, a, top_a, span_a = first
    q, b, top_b, span_b = second
    r, c, top_c, span_c = third
    return [
        same + p * ((top_a - x) / span_a) + q * ((top_b - y) / span_b) + r * ((top_c - z) / span_c)
        for x, y, z in zip(a, b, c, strict=True)
    ]


def _highest(same: float, first: _Column, second: _Column, third: _Column) -> tuple[float, int]:
    """The highest sum, and how many candidates have it."""
    p, a, top_a, span_a = first
    q, b, top_b, span_b = second
    r, c, top_c, span_c = third
    most, ties = -1.0, 0
    for at in range(len(a)):
        each = same + p * ((top_a - a[at]) / span_a) + q * ((top_b - b[at]) / span_b) + r * ((top_c - c[at]) / span_c)
        if each > most:
            most, ties = each, 1
        elif each == most:
            ties += 1
    return most, ties


def _find(same: float, first: _Column, second: _Column, third: _Column, most: float, before: int) -> int:
    """The position of the highest sum with `before` equal ones before it."""
    p, a, top_a, span_a = first
    q, b, top_b, span_b = second
    r, c, top_c, span_c = third
    for at in range(len(a)):
        each = same + p * ((top_a - a[at]) / span_a) + q * ((top_b - b[at]) / span_b) + r * ((top_c - c[at]) / span_c)
        if each == most:
            if not before:
                return at
            before -= 1
    raise ValueError("no score is a number")


def span_of(column: tuple[float, ...]) -> tuple[float, float]:
    """The least and the greatest number; the column is not empty. 4 us at 1,000, where `min` and `max` take 40."""
    least = most = column[0]
    for at in range(len(column)):
        each = column[at]
        if each > most:
            most = each
        elif each < least:
            least = each
    return least, most
