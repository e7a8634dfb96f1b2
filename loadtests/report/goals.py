"""Goals of a bench: each bound with the number found, and their table. Pure: text out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from loadtests.report.tables import grid


class Goal(NamedTuple):
    """One number and its bound."""

    what: str
    found: float
    bound: float
    at_most: bool
    """Else: at least."""

    @property
    def met(self) -> bool:
        """Whether it is within."""
        return self.found <= self.bound if self.at_most else self.found >= self.bound


def goal_table(goals: Sequence[Goal]) -> str:
    """Each goal and the number found."""
    lines = [
        [each.what, f"{each.found:.2f}", f"{'at most' if each.at_most else 'at least'} {each.bound:g}", _verdict(each)]
        for each in goals
    ]
    return grid(["number", "found", "goal", ""], lines)


def _verdict(goal: Goal) -> str:
    return "met" if goal.met else "MISSED"
