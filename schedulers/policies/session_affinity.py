"""`session_affinity`: a conversation stays on its pod, unless that pod is overfull.

The pod is found by hashing and not stored: replicas agree without communication, and a restart loses nothing.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass
from itertools import islice
from typing import ClassVar

from schedulers import rendezvous
from schedulers.params import check, parameter
from schedulers.policies.least_load import least_loaded
from schedulers.types import NO_UNTRIED_POD, Decision, LoadSnapshot, PodId, Rejection, RequestInfo

_LOOKS = 24
"""Pods tried one by one in the session's order, 0.5 us each, before all with room are found at once (45 us at 1,000).
At the default `balance_factor` at least a fifth has room, so one request in 200 needs the second way."""


@dataclass(frozen=True, slots=True)
class SessionAffinity:
    """The first pod, in the session's own order of the pods, that is not overfull.

    Formula: the order is by `hash(session_key) * hash(pod) mod 2**32`, highest first (rendezvous hashing: a pod that
    goes moves only its own sessions, one that comes takes only its share). A pod is overfull at
    `ceil(balance_factor * (total_inflight + 1) / n)` requests in flight, so no pod ever holds more than that.
    Inputs: the request's session key, the pods' ids and in-flight counts. Requests without a key are routed as by
    `least_load`.
    Parameters: `balance_factor`, the c of the paper: 1.0 is an even spread that moves sessions often, 2.0 lets a pod
    take twice its share.
    When: conversations whose client sends a key, and engines whose caches the gateway cannot follow.
    Source: Thaler and Ravishankar, "A Name-Based Mapping Scheme for Rendezvous", 1996; Mirrokni, Thorup and
    Zadimoghaddam, "Consistent Hashing with Bounded Loads", 2016.
    """

    name: ClassVar[str] = "session_affinity"
    reads_sessions: ClassVar[bool] = True

    balance_factor: float = parameter(1.25, low=1.0, high=1000.0)

    def __post_init__(self) -> None:
        check(self)

    def pick(self, request: RequestInfo, snapshot: LoadSnapshot, /) -> Decision | Rejection:
        """The session's first pod with room, among those not tried yet."""
        if not request.session_key:
            left = snapshot.without(request.tried)
            return NO_UNTRIED_POD if left is None else least_loaded(request, left, self.name)
        # The order is over all pods, tried ones included, and stays what it is: nothing is cut out of it.
        tried = _at(request.tried, snapshot)
        if len(tried) == len(snapshot.candidates):
            return NO_UNTRIED_POD
        ranks, cap = rendezvous.ranking(request.session_key, snapshot), self._cap(snapshot, tried)
        reason = "home"
        for at in islice(rendezvous.descending(ranks), _LOOKS):
            pod, load = snapshot.candidates[at]
            if load.inflight < cap and at not in tried:
                return Decision(pod.id, self.name, float(load.inflight), reason)
            reason = "next_in_order"
        return self._among_all(ranks, snapshot, tried, cap)

    def _cap(self, snapshot: LoadSnapshot, tried: Collection[int]) -> int:
        inflight = snapshot.total_inflight() - sum([snapshot.candidates[at].load.inflight for at in tried])
        return math.ceil(self.balance_factor * (inflight + 1) / (len(snapshot.candidates) - len(tried)))

    def _among_all(self, ranks: bytes, snapshot: LoadSnapshot, tried: Collection[int], cap: int) -> Decision:
        """The first in order of those with room. There is one: n caps together exceed the requests in flight."""
        room = [at for at, (_, load) in enumerate(snapshot.candidates) if load.inflight < cap and at not in tried]
        pod, load = snapshot.candidates[max(room, key=lambda at: rendezvous.rank(ranks, at))]
        return Decision(pod.id, self.name, float(load.inflight), "next_in_order")


def _at(tried: Collection[PodId], snapshot: LoadSnapshot) -> Collection[int]:
    """Their positions; mostly none was tried."""
    if not tried:
        return ()
    positions = snapshot.position_of()
    return {positions[pod] for pod in tried if pod in positions}
