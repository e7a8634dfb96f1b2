"""`top_k`: any of the k best."""

from __future__ import annotations

from dataclasses import dataclass
from heapq import nlargest
from typing import ClassVar

from schedulers import entropy as rng
from schedulers.params import parameter
from schedulers.weighing import Weighed

_DRAW = 24
"""Salt, apart from those of `entropy.tied`."""


@dataclass(frozen=True, slots=True)
class TopK:
    """One of the `k` highest scores, each equally likely, also among equal ones at the edge.

    When: many replicas on an old view, which would otherwise all take the one best pod. Source: Dynamo's `top-k`
    sampling.
    """

    name: ClassVar[str] = "top_k"

    k: int = parameter(3, low=1, high=1000)

    def pick(self, scores: Weighed, entropy: int, /) -> int:
        """The position of the pod picked."""
        count = min(self.k, scores.count)
        # A random rank first, then any pod with that rank's score: ties at the edge share the ranks they have.
        means = scores.all()
        ranked = nlargest(count, means)
        return rng.tied(means, ranked[rng.index(entropy, count, _DRAW)], entropy)
