"""`prefix_aware`: the pod with the least work ahead of this request's first token, what its cache spares included."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from schedulers import entropy
from schedulers.types import (
    NO_UNTRIED_POD,
    PREFIX_BLOCK_TOKENS,
    Decision,
    LoadSnapshot,
    Rejection,
    RequestInfo,
)

_SECOND_DRAW = 16
"""Clear of the draws `entropy.tied` makes, so that who is to be beaten does not say who of the winners is taken."""


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
        work = left.work_column()
        least = min(work)
        if not request.prefix_hits:
            at = entropy.tied(work, least, request.entropy)
            return Decision(left.candidates[at].pod.id, self.name, least + request.prompt_tokens, "least_work")
        at, cost = _cheapest(request, left, work, least)
        reason = "least_work" if work[at] == least else "prefix_outweighs_work"
        return Decision(left.candidates[at].pod.id, self.name, cost, reason)


def _cheapest(request: RequestInfo, left: LoadSnapshot, work: tuple[float, ...], least: float) -> tuple[int, float]:
    """Position and cost of the cheapest pod; equal ones by entropy.

    A pod beats a least busy one only by holding more of the prompt. So one `min()` over the pool finds the pod to beat,
    and of those that hold more, only the ones that would win if they were least busy themselves are priced.
    """
    positions, hits, prompt_tokens = left.position_of(), request.prefix_hits, request.prompt_tokens
    to_beat = entropy.tied(work, least, request.entropy)
    held = hits.get(left.candidates[to_beat].pod.id, 0)
    level = best = least + _uncached(prompt_tokens, held)
    if max(hits.values()) <= held:
        return to_beat, level  # nobody holds more: the usual case of a system prompt that every pod holds
    ties: list[int] = []
    worth_a_look: float = held + 1
    for pod, blocks in hits.items():
        if blocks < worth_a_look or (at := positions.get(pod)) is None:
            continue
        cost = work[at] + _uncached(prompt_tokens, blocks)
        if cost < best:
            best, ties = cost, [at]
            worth_a_look = (least + prompt_tokens - best) / PREFIX_BLOCK_TOKENS
        elif cost == best:
            ties.append(at)
    if not ties:
        return to_beat, level
    if best == level:
        ties = _all_at(best, request, left, work)
    return ties[entropy.index(request.entropy, len(ties), _SECOND_DRAW)], best


def _all_at(best: float, request: RequestInfo, left: LoadSnapshot, work: tuple[float, ...]) -> list[int]:
    """Every position that costs `best`, by pricing the whole pool: for when busy and least busy pods come out equal."""
    hits, prompt_tokens = request.prefix_hits, request.prompt_tokens
    held = [hits.get(pod.id, 0) for pod, _ in left.candidates]
    return [at for at, blocks in enumerate(held) if work[at] + _uncached(prompt_tokens, blocks) == best]


def _uncached(prompt_tokens: int, blocks: int) -> int:
    """Prompt tokens to compute where `blocks` are held; the last one always is, its output being the first answer."""
    tokens = prompt_tokens - PREFIX_BLOCK_TOKENS * blocks
    return tokens if tokens > 1 else 1
