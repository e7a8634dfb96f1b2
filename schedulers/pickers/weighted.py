"""`weighted`: at random, in proportion to the score."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from itertools import accumulate
from typing import ClassVar

from schedulers import entropy as rng
from schedulers.params import parameter
from schedulers.weighing import Weighed

_DRAW = 24
"""Salt, apart from those of other draws."""


@dataclass(frozen=True, slots=True)
class Weighted:
    """A random pod, in proportion to `score ** power`; if all score 0, each is equally likely.

    Source: llm-d's `weighted-random-picker`, which has no `power`; scores lie close together, so 1 hardly steers.
    """

    name: ClassVar[str] = "weighted"

    power: float = parameter(1.0, low=0.0, high=64.0)

    def pick(self, scores: Weighed, entropy: int, /) -> int:
        """The position of the pod picked."""
        power = self.power
        means = scores.all()
        sums = list(accumulate(means if power == 1.0 else [mean**power for mean in means]))
        if not sums[-1]:
            return rng.index(entropy, scores.count)
        # The draw is below 1, but its product with the sum may round up to the sum.
        return min(bisect_right(sums, rng.mix(entropy, _DRAW) / 2**64 * sums[-1]), scores.count - 1)
