"""How numbers of any size become scores from 0 to 1. Knows no pod."""

from __future__ import annotations

from collections.abc import Sequence

from schedulers.weighing import Falling, span_of


def falling(column: tuple[float, ...]) -> Falling | float:
    """1 for the least of them, down to 0 for the most; 1 for all where they are equal. `column` is not empty."""
    least, most = span_of(column)
    return Falling(column, most, most - least) if most > least else 1.0


def halving(column: Sequence[float], half: float) -> Sequence[float]:
    """1 at nothing, 1/2 at `half`, towards 0 beyond it. Numbers are not negative, `half` is positive."""
    return [half / (half + each) for each in column]
