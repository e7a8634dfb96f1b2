"""What the other replicas have in flight, folded into the pods' seats: each replica's numbers are kept, so that they
can be replaced, and taken off exactly when it goes. Knows no store, no own requests and no clock.

A replica tells absolute numbers, and among them a counter of all it ever dispatched to a pod. What that grew by is its
tempo; however late it was heard, it must not look like a burst.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from schedulers.types import PodId
from statesync.load.decaying_rate import DecayingRate, together
from statesync.load.pod_state import PodState
from statesync.load.pool_state import PoolState
from statesync.types import InflightNumbers

_NOTHING: Final = InflightNumbers()


def _holds(numbers: InflightNumbers) -> bool:
    """Whether there is anything but the counter."""
    return numbers._replace(dispatched=0) != _NOTHING


class ReplicaLoad:
    """What one other replica has told."""

    __slots__ = ("heard_at", "numbers", "rates")

    def __init__(self, now: float) -> None:
        self.numbers: dict[PodId, InflightNumbers] = {}
        self.rates: dict[str, DecayingRate] = {}
        """By pool: how fast it dispatches."""
        self.heard_at = now

    def take(self, pod: PodId, told: InflightNumbers, pod_state: PodState | None, now: float) -> int:
        """Put new numbers in place of the old; returns by how much its counter of dispatched requests grew."""
        new = told if min(told) >= 0 else InflightNumbers(*(max(0, count) for count in told))
        known = self.numbers.pop(pod, None)
        # The counter alone is worth keeping only of a pod that is known here, or those of pods long gone would add up.
        if new != _NOTHING and (pod_state is not None or _holds(new)):
            self.numbers[pod] = new
        if pod_state is None:
            return 0
        pod_state.shift_others(known or _NOTHING, new, now)
        # Without an earlier number there is no telling when they were sent.
        return max(0, new.dispatched - known.dispatched) if known is not None else 0

    def __repr__(self) -> str:
        requests = sum(each.requests for each in self.numbers.values())
        return f"<Share {requests} in flight on {len(self.numbers)} pods, heard at {self.heard_at:g}>"


class RemoteLoad:
    """The shares of all other replicas. `pod_states` and `pool_states` are the view's own, shared with it."""

    def __init__(self, pod_states: Mapping[PodId, PodState], pool_states: Mapping[str, PoolState]) -> None:
        self._pod_states = pod_states
        self._pool_states = pool_states
        self._shares: dict[str, ReplicaLoad] = {}

    def __len__(self) -> int:
        return len(self._shares)

    def put(self, replica: str, numbers: Mapping[PodId, InflightNumbers], now: float) -> list[PoolState]:
        """Take a replica's numbers, see `LoadView.set_share`; returns the pools one of whose pods has room again."""
        share = self._shares.get(replica)
        if share is None:
            share = self._shares[replica] = ReplicaLoad(now)
        freed: dict[str, PoolState] = {}
        sent: dict[str, int] = {}
        for pod, told in numbers.items():
            pod_state = self._pod_states.get(pod)
            pool_state = pod_state.pool_state if pod_state is not None else None
            if pod_state is None or pool_state is None:
                share.take(pod, told, None, now)
                continue
            if grown := share.take(pod, told, pod_state, now):
                sent[pool_state.pool] = sent.get(pool_state.pool, 0) + grown
            if pool_state.changed(pod_state):
                freed[pool_state.pool] = pool_state
        since_s, share.heard_at = now - share.heard_at, now
        for pool, events in sent.items():
            share.rates.setdefault(pool, DecayingRate()).add(events, now, since_s)
            self._pool_states[pool].elsewhere.add(events, now, since_s)
        return list(freed.values())

    def drop(self, replica: str, now: float) -> list[PoolState]:
        """The replica is gone: exactly its share goes. Returns as `put` does."""
        share = self._shares.get(replica)
        if share is None:
            return []
        freed = self.put(replica, dict.fromkeys(share.numbers, _NOTHING), now)
        del self._shares[replica]
        for pool in share.rates:
            others = (other.rates[pool] for other in self._shares.values() if pool in other.rates)
            self._pool_states[pool].elsewhere = together(others, now)
        return freed

    def seated(self, pod_state: PodState, now: float) -> None:
        """A pod (re)appeared: add up what all have told of it."""
        for share in self._shares.values():
            pod_state.shift_others(_NOTHING, share.numbers.get(pod_state.pod.id, _NOTHING), now)

    def left(self, pod: PodId) -> None:
        """A pod is gone: only what is still in flight on it is kept."""
        for share in self._shares.values():
            if not _holds(share.numbers.get(pod, _NOTHING)):
                share.numbers.pop(pod, None)
