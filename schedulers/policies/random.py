"""`random`: any pod, each equally likely."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from schedulers import entropy
from schedulers.types import NO_UNTRIED_POD, Decision, LoadSnapshot, Rejection, RequestInfo


@dataclass(frozen=True, slots=True)
class Random:
    """A pod drawn uniformly, whatever its load.

    Formula: `candidates[draw(n)]`.
    Inputs: the request's entropy. Parameters: none.
    When: a floor to compare others with, or as the control arm of a canary. No state, so replicas need not agree; but
    the fullest of n pods holds about log n / log log n times its share.
    Source: the balls-into-bins bound, Raab and Steger, "Balls into Bins: A Simple and Tight Analysis", 1998.
    """

    name: ClassVar[str] = "random"
    reads_sessions: ClassVar[bool] = False

    def pick(self, request: RequestInfo, snapshot: LoadSnapshot, /) -> Decision | Rejection:
        """A uniform draw from the pods not tried yet."""
        left = snapshot.without(request.tried)
        if left is None:
            return NO_UNTRIED_POD
        candidates = left.candidates
        pod, _ = candidates[entropy.index(request.entropy, len(candidates))]
        return Decision(pod.id, self.name, 0.0, "drawn")
