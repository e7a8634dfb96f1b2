"""`slo_goodput`: the pod where the most promised times are kept, this request's and those of the requests there.

Here is what a pod is worth for a request. `prefix_aware` prices seconds, `slo.py` promises.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Final

from schedulers import entropy
from schedulers.params import check, parameter
from schedulers.policies import prefix_aware
from schedulers.slo import broken, kept, rest_s, token_s, weight
from schedulers.ttft import ANSWER_TOKENS, admission_s
from schedulers.types import (
    NO_SLO,
    NO_UNTRIED_POD,
    PREFIX_BLOCK_TOKENS,
    Candidate,
    Decision,
    LoadSnapshot,
    PodLoad,
    Rejection,
    RequestInfo,
)

LOST: Final = 0.5
"""Likelihood below which a promise counts as lost, for requests that may be refused."""

LEAST_RETRY_S: Final = 1.0
"""Seconds after which a refused request may be sent again, at least."""

LEAST_S: Final = 1e-3
"""Seconds that are left to a request whose deadline has passed."""


@dataclass(frozen=True, slots=True)
class SloGoodput:
    """The pod where the most promised times are kept.

    Formula: `argmin(cost + patience_s * (broken - weight * kept))`. `cost` is `prefix_aware`'s, in seconds. `kept` is
    how likely the request's own first token, token times and deadline are kept there: `1 / (1 + (expected /
    promised)**6)` each. `broken` is how many promises of the requests there are lost because of it: it makes decode
    steps longer, and its prompt holds them up. `weight` is `2**priority`, for its own promise and theirs.
    So requests that are promised little, or are late anyway, go where nothing is left to lose, and leave room for
    tight ones. A request of a priority below `shed_below` that is late everywhere is refused.
    Inputs: as `prefix_aware`; `request.slo`, `deadline` and `priority`; of each pod what it promised
    (`PodLoad.promised`), requests and tokens in flight, mean times.
    Parameters: `patience_s`, the seconds that one request may wait longer for one promise that another one keeps;
    `shed_below`.
    When: requests have promised times, and at times not all can be kept.
    Source: own. Likelihoods in place of llm-d's positive and negative headroom (predicted-latency scheduling, 2026),
    which also sheds priorities below 0; PolyServe (arXiv 2507.17769) sends a request to the most loaded server that
    keeps it; SCORPIO (arXiv 2505.23022) rejects what is out of reach.
    """

    name: ClassVar[str] = "slo_goodput"
    reads_sessions: ClassVar[bool] = False

    patience_s: float = parameter(10.0, low=0.0, high=3600.0)
    shed_below: int = parameter(0, low=-1000, high=1000)

    def __post_init__(self) -> None:
        check(self)

    def pick(self, request: RequestInfo, snapshot: LoadSnapshot, /) -> Decision | Rejection:
        """The pod of least cost not tried yet; among equal ones, by entropy."""
        left = snapshot.without(request.tried) if request.tried else snapshot
        if left is None:
            return NO_UNTRIED_POD
        at = prefix_aware.priced(request, left)
        positions = range(len(left.candidates)) if at is None else at
        costs = prefix_aware.costs_of(request, left, at)
        others = prefix_aware.others_pace(left)
        now = max(request.arrived_at, left.taken_at)
        promised = request.slo != NO_SLO or request.deadline is not None
        worth = weight(request.priority) if promised else 0.0
        best_kept, soonest = 0.0, float("inf")
        for number, position in enumerate(positions):
            room_s, own_s, work = _needs(request, left.candidates[position])
            costs[number] += room_s
            first_s = costs[number] - work * others
            likely, lost = _effects(request, left.candidates[position].load, first_s, own_s, now)
            best_kept, soonest = max(best_kept, likely), min(soonest, first_s)
            costs[number] += self.patience_s * (lost - worth * likely)
        if promised and best_kept < LOST and request.priority < self.shed_below:
            return Rejection("slo_out_of_reach", max(LEAST_RETRY_S, soonest - request.slo.ttft_s))
        best = min(costs)
        pod = left.candidates[positions[entropy.tied(costs, best, request.entropy)]].pod
        return Decision(pod.id, self.name, best, "keeps_slo" if best_kept >= LOST else "late")


def _needs(request: RequestInfo, candidate: Candidate) -> tuple[float, float, int]:
    """Seconds until the pod has KV blocks for the request, seconds of its own prefill there, and that work."""
    pod, load = candidate
    cached = min(request.prefix_hits.get(pod.id, 0) * PREFIX_BLOCK_TOKENS, request.prompt_tokens)
    work = prefix_aware.own_work(request.prompt_tokens, cached)
    room_s = 0.0
    if load.kv_capacity_tokens:
        size = request.prompt_tokens - cached + (request.max_tokens or ANSWER_TOKENS)
        room_s = admission_s(load.inflight_tokens, load.kv_capacity_tokens, size, load.e2e_ewma_s)
    return room_s, work * load.pace_s, work


def _effects(request: RequestInfo, load: PodLoad, first_s: float, own_s: float, now: float) -> tuple[float, float]:
    """How likely the request's promises are kept on the pod, and the weight of those that it breaks there."""
    answer = request.max_tokens or ANSWER_TOKENS
    size, pace_s = request.prompt_tokens + answer, load.pace_s
    before_s = token_s(load.inflight, load.inflight_tokens, pace_s)
    after_s = token_s(load.inflight + 1, load.inflight_tokens + size, pace_s)
    likely = kept(now - request.arrived_at + first_s, request.slo.ttft_s) * kept(after_s, request.slo.tpot_s)
    if request.deadline is not None:
        likely *= kept(first_s + answer * after_s, max(request.deadline - now, LEAST_S))
    if not load.promised:
        return likely, 0.0
    rest, pending_s = rest_s(load.e2e_ewma_s, load.ttft_ewma_s), load.prefill_work * pace_s
    before_s *= 1 + pending_s / rest
    after_s *= 1 + (pending_s + own_s) / rest
    return likely, broken(load.promised, before_s, after_s)
