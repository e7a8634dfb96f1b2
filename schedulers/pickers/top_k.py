"""`top_k`: any of the k best."""

from __future__ import annotations

from dataclasses import dataclass
from heapq import nlargest
from typing import ClassVar

from schedulers import entropy as rng
from schedulers.params import parameter
from schedulers.weighing import Weighed

_DRAW = 24
"""Clear of the draws that `entropy.tied` makes with the same bits."""


@dataclass(frozen=True, slots=True)
class TopK:
    """One of the `k` highest scores, each as likely; of equal ones at the edge, each as likely to be among them.

    When: many replicas on an old view, which would all take the one best pod. Source: Dynamo's `top-k` sampling.
    """

    name: ClassVar[str] = "top_k"

    k: int = parameter(3, low=1, high=1000)

    def pick(self, scores: Weighed, entropy: int, /) -> int:
        """Where it stands."""
        count = min(self.k, scores.count)
        # A rank first, then any pod of that rank's score: so a tie at the edge shares the places it has.
        means = scores.all()
        ranked = nlargest(count, means)
        return rng.tied(means, ranked[rng.index(entropy, count, _DRAW)], entropy)
