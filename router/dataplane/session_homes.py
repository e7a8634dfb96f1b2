"""The pod that a session waits for, in pools with `affinity: hold`: the first in the session's own order of all pods of
the pool, whatever their health. Knows no load; requests of other pools do not come here.

A pod of a StatefulSet comes back under its name. So it is still waited for while it is away, for `AWAY_S`; then its
sessions go to the next pod in their order.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from typing import Final

from schedulers import rendezvous
from schedulers.types import Pod, PodId
from statesync.discovery.changes import STATEFUL_SET, PodChange
from statesync.errors import UnknownPod
from statesync.load.view import LoadView

AWAY_S: Final = 900.0
"""Seconds in which a pod that left must come back: a model of some hundred gigabytes loads in them."""

LEAVES: Final = frozenset(("draining", "terminating"))
"""Blockers of a pod that is on its way out and not waited for, unless it comes back under its name."""

DRAINING: Final = "draining"


class SessionHomes:
    """The members of the pools whose sessions wait. Follows discovery as a prober does."""

    def __init__(
        self,
        view: LoadView,
        clock: Callable[[], float],
        pools: Collection[str],
        lacks: Callable[[str, PodId, str], bool] = lambda pool, pod, model: False,
    ) -> None:
        """`lacks`: whether a pod of a pool lists its models, and this one is not among them."""
        self._lacks = lacks
        self._view = view
        self._clock = clock
        self._members: dict[str, dict[PodId, Pod]] = {pool: {} for pool in pools}
        self._away: dict[str, dict[PodId, float]] = {pool: {} for pool in pools}
        """Pool -> pod that left and may come back -> until when it is waited for."""

    def change_pods(self, pool: str, change: PodChange) -> None:
        """Pods came to a pool or left it."""
        members = self._members.get(pool)
        if members is None:
            return
        away = self._away[pool]
        for pod in change.come:
            members[pod.id] = pod
            away.pop(pod.id, None)
        for gone in change.gone:
            left = members.pop(gone, None)
            if left is not None and STATEFUL_SET in left.labels:
                away[gone] = self._clock() + AWAY_S

    def home(self, pool: str, session: str, model: str = "") -> PodId | None:
        """The session's own pod among those that may serve the model; None where the pool has none."""
        pods = (*self._members[pool], *self._expected(pool))
        for at in rendezvous.order(session, pods):
            if not self._leaves(pool, pods[at]) and not (model and self._lacks(pool, pods[at], model)):
                return pods[at]
        return None

    def _expected(self, pool: str) -> Iterable[PodId]:
        away = self._away[pool]
        if away:
            now = self._clock()
            for pod in [pod for pod, until in away.items() if until <= now]:
                del away[pod]
        return away

    def _leaves(self, pool: str, pod: PodId) -> bool:
        """Whether the pod goes for good."""
        member = self._members[pool].get(pod)
        if member is None:
            return False  # it is away and expected back
        try:
            blockers = LEAVES.intersection(self._view.status(pod).blockers)
        except UnknownPod:
            return False
        return DRAINING in blockers or (bool(blockers) and STATEFUL_SET not in member.labels)
