"""`prefix_aware`: the pod where this request's first token is expected soonest, by its cache, queue and batch.

The cost model is `ttft.py`; which pods are priced and which is taken is `soonest.py`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from schedulers.soonest import soonest
from schedulers.types import NO_UNTRIED_POD, Decision, LoadSnapshot, Rejection, RequestInfo


@dataclass(frozen=True, slots=True)
class PrefixAware:
    """The pod where this request's first token is expected soonest.

    Formula: `argmin(wait + own * pace + own * others + room)`, in seconds, equal pods by entropy. `wait` is until the
    prompts before it are computed, plus two decode steps of the batch. `own` is this request's uncached prompt in token
    equivalents (`ttft.prefill_work`: attention over a long context costs more). `pace` is the learned time of one on
    that pod; `others` is that of the average pod, times `1 + seconds of prefill that wait there`: work that misses the
    cache also delays later requests. `room` is the wait for KV blocks, if there are too few.
    Inputs: the snapshot's columns `until`, `wait`, `pace`, its `unseen`; KV capacity; prompt tokens and prefix hits.
    Parameters: none. Cache, queue and batch are in one unit, seconds, so there is no threshold to tune.
    Herding: as `unseen` grows the choice narrows from all pods to three random ones and the one that holds most.
    When: nearly always; without shared prefixes it is least expected time to first token.
    Source: own, from simulations on recorded traffic (`ttft.py`); Dynamo's KV router and LMetric count the same tokens,
    without attention, decode drag, progress and the pods' paces.
    """

    name: ClassVar[str] = "prefix_aware"

    def pick(self, request: RequestInfo, snapshot: LoadSnapshot, /) -> Decision | Rejection:
        """The pod of least cost not tried yet."""
        left = snapshot.without(request.tried) if request.tried else snapshot
        if left is None:
            return NO_UNTRIED_POD
        found = soonest(request, left)
        return Decision(found.pod, self.name, found.cost, found.reason)
