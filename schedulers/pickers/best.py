"""`best`: the highest score."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from schedulers.weighing import Weighed


@dataclass(frozen=True, slots=True)
class Best:
    """The highest score; of equal ones, each is equally likely. Source: llm-d's `max-score-picker`."""

    name: ClassVar[str] = "best"

    def pick(self, scores: Weighed, entropy: int, /) -> int:
        """The position of the pod picked."""
        return scores.best(entropy)
