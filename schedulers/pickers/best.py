"""`best`: the highest score."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from schedulers import entropy as dice


@dataclass(frozen=True, slots=True)
class Best:
    """The highest score; of equal ones, each as likely. Source: llm-d's `max-score-picker`."""

    name: ClassVar[str] = "best"

    def pick(self, scores: Sequence[float], entropy: int, /) -> int:
        """Where it stands."""
        return dice.tied(scores, max(scores), entropy)
