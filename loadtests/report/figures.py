"""Repeated measurements to figures: median, range, quartiles. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from statistics import fmean, median
from typing import NamedTuple


class Range(NamedTuple):
    """A figure over the repeats."""

    median: float
    least: float
    most: float


def over(values: Iterable[float]) -> Range:
    """Median, least and most of at least one value."""
    found = [*values]
    return Range(median(found), min(found), max(found))


def quartiles(values: Iterable[float]) -> tuple[float, float, float]:
    """The bounds of the middle half of the values, and the median between them."""
    ordered = sorted(values)
    quarter = len(ordered) // 4
    return ordered[quarter], median(ordered), ordered[-1 - quarter]


def mean(values: Sequence[float]) -> float:
    """The mean; 0 of no values."""
    return fmean(values) if values else 0.0
