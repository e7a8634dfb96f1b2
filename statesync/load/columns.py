"""A list in which the order of entries means nothing: how one leaves it without moving the others. Knows no pod."""

from __future__ import annotations

from typing import TypeVar

_T = TypeVar("_T")


def fill(column: list[_T], at: int) -> None:
    """Put the last entry into the place of the one that goes."""
    last = column.pop()
    if at < len(column):
        column[at] = last
