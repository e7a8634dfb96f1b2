"""What a pod is worth for a request by promised times: the part of `slo_goodput` that looks at each pod. `prefix_aware`
prices seconds, `slo.py` promises. mypyc compiles this file.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from schedulers.policies import prefix_aware
from schedulers.slo import broken, kept, rest_s, token_s, weight
from schedulers.ttft import ANSWER_TOKENS, IDLE_PACE_S, LULL_STEPS, PRIOR
from schedulers.types import PREFIX_BLOCK_TOKENS, LoadSnapshot, RequestInfo

LOST: Final = 0.5
"""Likelihood below which a promise counts as lost, for requests that may be refused."""

LEAST_S: Final = 1e-3
"""Seconds that are left to a request whose deadline has passed."""


def weigh(
    request: RequestInfo, snapshot: LoadSnapshot, positions: Sequence[int], costs: list[float], patience_s: float
) -> tuple[float, float]:
    """Add to the costs of the pods at these positions the wait for KV blocks, and what promises are kept and broken
    there. Returns how likely the request keeps its own on the best of them (1 without any), and the soonest first
    token."""
    slo, deadline, prompt = request.slo, request.deadline, request.prompt_tokens
    now = max(request.arrived_at, snapshot.taken_at)
    left_s = 0.0 if deadline is None else max(deadline - now, LEAST_S)
    promised = slo.ttft_s > 0.0 or slo.tpot_s > 0.0 or left_s > 0.0
    worth = patience_s * weight(request.priority)
    others, waited_s = prefix_aware.others_pace(snapshot), now - request.arrived_at
    answer, candidates, hits = request.max_tokens or ANSWER_TOKENS, snapshot.candidates, request.prefix_hits
    held = hits.get
    best_kept, soonest_s = 0.0 if promised else 1.0, float("inf")
    for number, position in enumerate(positions):
        pod, load = candidates[position]
        cached = held(pod[0], 0) * PREFIX_BLOCK_TOKENS if hits else 0
        if cached > prompt:
            cached = prompt
        if load.kv_capacity_tokens:
            costs[number] += prefix_aware.room_s(request, load)
        if not promised and not load.promised:
            continue
        work, pace_s = prefix_aware.own_work(prompt, cached), load.pace_s
        first_s = costs[number] - work * others
        if first_s < soonest_s:
            soonest_s = first_s
        tokens = load.inflight_tokens * load.kv_share
        slower = load.step_s / PRIOR.decode_step_s(load.inflight - load.prefilling, tokens)
        alone_s = token_s(load.inflight, tokens, slower)
        with_s = token_s(load.inflight + 1, tokens + (prompt + answer) * load.kv_share, slower)
        if promised:
            likely = kept(waited_s + first_s, slo.ttft_s) * kept(with_s, slo.tpot_s)
            if left_s:
                likely *= kept(first_s + answer * with_s, left_s)
            if likely > best_kept:
                best_kept = likely
            costs[number] -= worth * likely
        if load.promised:
            rest, pending_s = rest_s(load.e2e_ewma_s, load.ttft_ewma_s), load.prefill_work * pace_s
            before_s, after_s = alone_s * (1 + pending_s / rest), with_s * (1 + (pending_s + work * pace_s) / rest)
            costs[number] += patience_s * broken(load.promised, before_s, after_s)
    return best_kept, soonest_s


def in_reach(request: RequestInfo, snapshot: LoadSnapshot) -> bool:
    """Whether an idle pod would keep the request's promises: if not, to send it again later is of no use."""
    answer, slo, pace_s = request.max_tokens or ANSWER_TOKENS, request.slo, snapshot.pace_s
    cached = min(max(request.prefix_hits.values(), default=0) * PREFIX_BLOCK_TOKENS, request.prompt_tokens)
    slower = pace_s / IDLE_PACE_S
    lull_s = LULL_STEPS * PRIOR.step_s * slower
    first_s = lull_s + prefix_aware.own_work(request.prompt_tokens, cached) * pace_s
    each_s = token_s(1, request.prompt_tokens + answer, slower)
    likely = kept(first_s, slo.ttft_s) * kept(each_s, slo.tpot_s)
    if request.deadline is not None:
        likely *= kept(first_s + answer * each_s, max(request.deadline - request.arrived_at, LEAST_S))
    return likely >= LOST
