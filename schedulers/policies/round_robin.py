"""`round_robin`: the pods in turn."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from schedulers.types import NO_UNTRIED_POD, Decision, LoadSnapshot, Rejection, RequestInfo


@dataclass(frozen=True, slots=True)
class RoundRobin:
    """The pod whose turn it is.

    Formula: `untried[sequence mod len(untried)]`.
    Inputs: the request's sequence number, which counts the requests of its pool on its replica. Parameters: none.
    When: requests that cost much the same (embeddings, fixed-length batches). Ignores load and caches.
    Source: the oldest load balancer there is; see nginx `ngx_http_upstream_round_robin`.
    """

    name: ClassVar[str] = "round_robin"
    reads_sessions: ClassVar[bool] = False

    def pick(self, request: RequestInfo, snapshot: LoadSnapshot, /) -> Decision | Rejection:
        """The pod whose turn it is, among those not tried yet."""
        left = snapshot.without(request.tried)
        if left is None:
            return NO_UNTRIED_POD
        candidates = left.candidates
        # The turn among the untried pods spreads a failed pod's retries over all others; a step to the next pod would
        # send them all to one.
        pod, _ = candidates[request.sequence % len(candidates)]
        return Decision(pod.id, self.name, 0.0, "in_turn")
