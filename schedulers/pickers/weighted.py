"""`weighted`: at random, in proportion to the score."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import ClassVar

from schedulers import entropy as dice
from schedulers.params import parameter

_DRAW = 24
"""Clear of the draws that others make with the same bits."""


@dataclass(frozen=True, slots=True)
class Weighted:
    """A pod is drawn in proportion to `score ** power`; where all score 0, each is as likely.

    Source: llm-d's `weighted-random-picker`, which has no `power`; scores lie close together, so 1 hardly steers.
    """

    name: ClassVar[str] = "weighted"

    power: float = parameter(1.0, low=0.0, high=64.0)

    def pick(self, scores: Sequence[float], entropy: int, /) -> int:
        """Where it stands."""
        power = self.power
        sums = list(accumulate(scores if power == 1.0 else [score**power for score in scores]))
        if not sums[-1]:
            return dice.index(entropy, len(scores))
        # The draw is below 1, but times the sum it may round up to it.
        return min(bisect_right(sums, dice.mix(entropy, _DRAW) / 2**64 * sums[-1]), len(scores) - 1)
