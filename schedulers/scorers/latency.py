"""`latency`: sooner first tokens so far, and fewer requests to share them with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from schedulers.scorers.column import column, field
from schedulers.types import LoadSnapshot, RequestInfo
from schedulers.weighing import Scores

_PACE = field("ttft_ewma_s", "inflight")


@dataclass(frozen=True, slots=True)
class PeakEwma:
    """`least / cost` over the candidates; `cost = ttft_ewma_s * (inflight + 1)`.

    A pod that has not answered yet counts at the mean of those that have, so that it gets its part of the requests.
    Source: Finagle's and tower's Peak EWMA balancers, on the time to first token.
    """

    name: ClassVar[str] = "latency"
    needs_all: ClassVar[bool] = False

    def score(self, request: RequestInfo, snapshot: LoadSnapshot, /) -> Scores:
        """The candidates' scores."""
        costs = [usual_s * (inflight + 1) for usual_s, inflight in column(_PACE, snapshot)]
        least = min(costs)
        if not least:
            costs = self._with_the_unknown(snapshot)
            least = min(costs)
        return [least / cost for cost in costs]

    def _with_the_unknown(self, snapshot: LoadSnapshot) -> list[float]:
        known = [load.ttft_ewma_s for _, load in snapshot.candidates if load.ttft_ewma_s]
        mean_s = sum(known) / len(known) if known else 1.0
        return [(load.ttft_ewma_s or mean_s) * (load.inflight + 1) for _, load in snapshot.candidates]
