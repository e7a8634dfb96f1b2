"""`p2c`: two pods at random, the less loaded of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from schedulers import entropy
from schedulers.types import NO_UNTRIED_POD, Decision, LoadSnapshot, Rejection, RequestInfo, token_load


@dataclass(frozen=True, slots=True)
class PowerOfTwoChoices:
    """The less loaded of two distinct pods drawn at random.

    Formula: `argmin(load(a), load(b))`, load as in `least_load`; a and b two distinct uniform draws.
    Inputs: the request's entropy, the loads of two pods. Parameters: none.
    When: many replicas or an old view: replicas do not all choose the same pod, and the fullest pod stays within log
    log n of the mean. Costs the same at 1000 pods as at two. Ignores caches.
    Source: Mitzenmacher, "The Power of Two Choices in Randomized Load Balancing", 1996; tower's and linkerd's `p2c`.
    """

    name: ClassVar[str] = "p2c"
    reads_sessions: ClassVar[bool] = False

    def pick(self, request: RequestInfo, snapshot: LoadSnapshot, /) -> Decision | Rejection:
        """The less loaded of two drawn from the pods not tried yet."""
        left = snapshot.without(request.tried)
        if left is None:
            return NO_UNTRIED_POD
        candidates = left.candidates
        first = entropy.index(request.entropy, len(candidates))
        if len(candidates) == 1:
            return Decision(candidates[first].pod.id, self.name, 0.0, "only_one")
        second = entropy.index(request.entropy, len(candidates) - 1, 1)
        if second >= first:
            second += 1
        drawn = (candidates[first], candidates[second])
        loads = (token_load(drawn[0].load), token_load(drawn[1].load))
        # Equal loads: the first draw stands, which is random.
        at = 0 if loads[0] <= loads[1] else 1
        return Decision(drawn[at].pod.id, self.name, loads[at], "less_loaded_of_two")
