"""`prefix_aware`: the pod with the least work ahead of this request's first token, what its cache spares included."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from schedulers.selection import cheapest
from schedulers.types import (
    NO_UNTRIED_POD,
    PREFIX_BLOCK_TOKENS,
    Decision,
    LoadSnapshot,
    Rejection,
    RequestInfo,
)


@dataclass(frozen=True, slots=True)
class PrefixAware:
    """The pod where the least prefill work stands before this request's first token.

    Formula: `argmin(pending_prefill_tokens + 64 * inflight + max(1, prompt_tokens - 64 * prefix_hits))`, equal pods by
    entropy: the first two terms are `expected_work`, the last is this request's own uncached prompt (an engine always
    computes the last token).
    Inputs: the snapshot's work column, the request's prompt tokens and prefix hits. Parameters: none. Cache and load
    are in one unit, tokens to prefill, so there is no weight and no threshold to tune.
    When: nearly always; without shared prefixes it is least expected prefill.
    Source: the cost of NVIDIA Dynamo's KV router and of LMetric, with `expected_work` as the load.
    """

    name: ClassVar[str] = "prefix_aware"

    def pick(self, request: RequestInfo, snapshot: LoadSnapshot, /) -> Decision | Rejection:
        """The pod of least expected work not tried yet."""
        left = snapshot.without(request.tried)
        if left is None:
            return NO_UNTRIED_POD
        prompt_tokens = request.prompt_tokens

        def uncached(blocks: int) -> int:
            """Prompt tokens to compute where `blocks` are held; the last one always is: its output is the answer."""
            tokens = prompt_tokens - PREFIX_BLOCK_TOKENS * blocks
            return tokens if tokens > 1 else 1

        found = cheapest(left, left.work_column(), request.prefix_hits, uncached, request.entropy)
        reason = "least_work" if found.least_busy else "prefix_outweighs_work"
        return Decision(left.candidates[found.at].pod.id, self.name, found.cost, reason)
