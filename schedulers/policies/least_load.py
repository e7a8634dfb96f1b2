"""`least_load`: the pod with the fewest tokens in flight, and the decision that other policies fall back on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from schedulers import entropy
from schedulers.types import NO_UNTRIED_POD, Decision, LoadSnapshot, Rejection, RequestInfo


def least_loaded(request: RequestInfo, left: LoadSnapshot, policy: str) -> Decision:
    """`least_load`'s decision in the name of `policy`, for policies that fall back on it."""
    loads = left.columns.tokens
    at = entropy.least(loads, request.entropy)
    return Decision(left.candidates[at].pod.id, policy, loads[at], "least_load")


@dataclass(frozen=True, slots=True)
class LeastLoad:
    """The pod with the least load in tokens.

    Formula: `argmin(inflight_tokens + 64 * (inflight + foreign))`, equal pods by entropy.
    Inputs: the pods' loads. Parameters: none.
    When: prompts that share little, and few replicas or a fresh view: many replicas on an old view all choose the
    same pod, which `p2c` avoids.
    Source: Envoy and Caddy `least_request`/`least_conn`, counted in tokens as in Dynamo and AIBrix.
    """

    name: ClassVar[str] = "least_load"
    reads_sessions: ClassVar[bool] = False

    def pick(self, request: RequestInfo, snapshot: LoadSnapshot, /) -> Decision | Rejection:
        """The least loaded pod not tried yet."""
        left = snapshot.without(request.tried)
        return NO_UNTRIED_POD if left is None else least_loaded(request, left, self.name)
