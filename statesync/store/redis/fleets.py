"""Notices replicas of another fleet that share this one's namespace by mistake. Pure, but for the log.

Replicas of one fleet find the same pods, though not at the same moment. Replicas without a common pod, or with an
equally named pool of other pods, are two fleets. They still share all that goes by name.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Final

from statesync.store.redis.presence import Pools

SETTLE_LEASES: Final = 2
"""Leases for which another replica must have other pods before it counts: discovery may show it a change first."""

REPEAT_S: Final = 60.0
"""Seconds between two entries in the log about the same replica."""

_ADVICE: Final = (
    "They count each other as replicas, a change of the policy of one is a change of both where a pool has the same "
    "name, and their prefix placements mix. Give each fleet a sync.namespace or a database of its own"
)

_log = logging.getLogger("turnout.state")


def difference(own: Pools, others: Pools) -> str:
    """What makes these the pods of another fleet, for people; empty if nothing does."""
    common = False
    for pool, pods in own.items():
        there = others.get(pool)
        if pods and there:
            if not any(pod in pods for pod in there):
                return f"pool {pool} has {len(pods)} pods here and {len(there)} there, and none in common"
            common = True
    # With a common pod nothing more is compared, as this is done at each beat. A pool of both without pods on one side
    # is no sign of two fleets either: that side has not found them yet, or has lost them.
    if common or not own.keys().isdisjoint(others):
        return ""
    here, away = ({pod for pods in pools.values() for pod in pods} for pools in (own, others))
    if here and away and here.isdisjoint(away):
        pools = ", ".join(sorted(pool for pool, pods in others.items() if pods))
        return f"it has other pools ({pools}) and no pod of this one's"
    return ""


class FleetWatch:
    """The replicas of other fleets, as of the last look."""

    def __init__(self, namespace: str, lease_s: float) -> None:
        self._namespace = namespace
        self._settle_s = lease_s * SETTLE_LEASES
        self._since: dict[str, float] = {}
        """By replica: when its pods were first seen to be another fleet's."""
        self._logged: dict[str, float] = {}

    @property
    def strangers(self) -> int:
        """Live replicas of other fleets."""
        return len(self._logged)

    def look(self, own: Pools, others: Mapping[str, Pools], now: float) -> None:
        """Compare with the replicas that have other pods, and log those of another fleet."""
        found = {replica: why for replica, pools in others.items() if (why := difference(own, pools))}
        self._since = {replica: self._since.get(replica, now) for replica in found}
        for replica in self._logged.keys() - found.keys():
            del self._logged[replica]
            _log.info("replica %s is gone, or has pods of this one's now", replica)
        for replica, why in found.items():
            settled = now - self._since[replica] >= self._settle_s
            if settled and now - self._logged.get(replica, float("-inf")) >= REPEAT_S:
                self._logged[replica] = now
                message = "replica %s shares the namespace %s of this database but is of another fleet: %s. %s"
                _log.error(message, replica, self._namespace, why, _ADVICE)

    def __repr__(self) -> str:
        return f"<FleetWatch of {self._namespace}: {', '.join(self._logged) or 'one fleet'}>"
