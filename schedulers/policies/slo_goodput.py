"""`slo_goodput`: the pod where the most promised times are kept, this request's and those of the requests there.

Here are its parameters, and which pod is taken. `slo_costs.py` has what a pod is worth for a request.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Final

from schedulers.params import check, parameter
from schedulers.policies import prefix_aware
from schedulers.policies.slo_costs import LOST, in_reach, weigh
from schedulers.types import NO_UNTRIED_POD, Decision, LoadSnapshot, Rejection, RequestInfo

LEAST_RETRY_S: Final = 1.0
"""Seconds after which a refused request may be sent again, at least."""


@dataclass(frozen=True, slots=True)
class SloGoodput:
    """The pod where the most promised times are kept.

    Formula: `argmin(cost + patience_s * (broken - weight * kept))`. `cost` is `prefix_aware`'s, in seconds. `kept` is
    how likely the request's own first token, token times and deadline are kept there: `1 / (1 + (expected /
    promised)**6)` each. `broken` is how many promises of the requests there are lost because of it: it makes decode
    steps longer, and its prompt holds them up. `weight` is `2**priority`, for its own promise and theirs.
    So requests that are promised little, or are late anyway, go where nothing is left to lose, and leave room for
    tight ones. A request of a priority below `shed_below` that is late everywhere now is refused, if an idle pod would
    keep its promises.
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
        positions: Sequence[int] = range(len(left.candidates)) if at is None else at
        costs = prefix_aware.costs_of(request, left, at)
        if request.prefix_hits and not request.slo.ttft_s and not request.slo.tpot_s and request.deadline is None:
            if left.columns.queue[positions[costs.index(min(costs))]]:
                prefix_aware.prefer_a_copy(request, left, at, costs)
        best_kept, soonest_s = weigh(request, left, positions, costs, self.patience_s)
        if best_kept < LOST and request.priority < self.shed_below and in_reach(request, left):
            return Rejection("slo_out_of_reach", max(LEAST_RETRY_S, soonest_s - request.slo.ttft_s))
        taken = prefix_aware.take(request, left, costs)
        pod = left.candidates[positions[taken]][0]
        return Decision(pod.id, self.name, costs[taken], "keeps_slo" if best_kept >= LOST else "late")
