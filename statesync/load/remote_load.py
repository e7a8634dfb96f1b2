"""The other replicas' numbers, added into the pods' states. Each replica's numbers are kept here and nowhere else, so
that they can be replaced, and taken off exactly when the replica goes. Knows no store, no own requests and no clock.

Replicas send absolute numbers. One of them counts all dispatches to a pod ever; its growth is the replica's dispatch
rate. The growth is spread over the time since the replica's last update: a late update must not look like a burst.
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
    """One other replica's numbers and dispatch rates."""

    __slots__ = ("numbers", "rates", "updated_at")

    def __init__(self, now: float) -> None:
        self.numbers: dict[PodId, InflightNumbers] = {}
        self.rates: dict[str, DecayingRate] = {}
        """Dispatches, by pool."""
        self.updated_at = now

    def take(self, pod: PodId, received: InflightNumbers, pod_state: PodState | None, now: float) -> int:
        """Replace the pod's numbers; returns the growth of its counter of dispatched requests."""
        new = received if min(received) >= 0 else InflightNumbers(*(max(0, count) for count in received))
        known = self.numbers.pop(pod, None)
        # The counter alone is kept only for pods that are known here: those of pods long gone would add up.
        if new != _NOTHING and (pod_state is not None or _holds(new)):
            self.numbers[pod] = new
        if pod_state is None:
            return 0
        pod_state.shift_others(known or _NOTHING, new, now)
        # The first number says nothing about when those requests were sent.
        return max(0, new.dispatched - known.dispatched) if known is not None else 0

    def __repr__(self) -> str:
        requests = sum(each.requests for each in self.numbers.values())
        return f"<ReplicaLoad {requests} in flight on {len(self.numbers)} pods, updated at {self.updated_at:g}>"


class RemoteLoad:
    """All other replicas' numbers. `pod_states` and `pool_states` are the view's own, shared with it."""

    def __init__(self, pod_states: Mapping[PodId, PodState], pool_states: Mapping[str, PoolState]) -> None:
        self._pod_states = pod_states
        self._pool_states = pool_states
        self._replicas: dict[str, ReplicaLoad] = {}

    def __len__(self) -> int:
        return len(self._replicas)

    def update(
        self, replica: str, numbers: Mapping[PodId, InflightNumbers], now: float, full: bool = False
    ) -> list[PoolState]:
        """Take a replica's numbers, see `LoadView.set_remote`; returns the pools that got a candidate by it."""
        load = self._replicas.get(replica)
        if load is None:
            load = self._replicas[replica] = ReplicaLoad(now)
        if full and (absent := load.numbers.keys() - numbers.keys()):
            numbers = {**numbers, **{pod: InflightNumbers(dispatched=load.numbers[pod].dispatched) for pod in absent}}
        freed: dict[str, PoolState] = {}
        sent: dict[str, int] = {}
        for pod, received in numbers.items():
            pod_state = self._pod_states.get(pod)
            if pod_state is None or pod_state.pool is None:
                load.take(pod, received, None, now)
                continue
            pool_state = self._pool_states[pod_state.pool]
            if grown := load.take(pod, received, pod_state, now):
                sent[pool_state.pool] = sent.get(pool_state.pool, 0) + grown
            if pool_state.changed(pod_state):
                freed[pool_state.pool] = pool_state
        since_s, load.updated_at = now - load.updated_at, now
        for pool, events in sent.items():
            load.rates.setdefault(pool, DecayingRate()).add(events, now, since_s)
            self._pool_states[pool].remote_rate.add(events, now, since_s)
        return list(freed.values())

    def drop(self, replica: str, now: float) -> list[PoolState]:
        """The replica is gone: exactly its numbers go. Returns as `update` does."""
        load = self._replicas.get(replica)
        if load is None:
            return []
        freed = self.update(replica, dict.fromkeys(load.numbers, _NOTHING), now)
        del self._replicas[replica]
        for pool in load.rates:
            others = (other.rates[pool] for other in self._replicas.values() if pool in other.rates)
            self._pool_states[pool].remote_rate = together(others, now)
        return freed

    def add_up(self, pod_state: PodState, now: float) -> None:
        """A pod (re)appeared: add all replicas' numbers of it to its state."""
        for load in self._replicas.values():
            pod_state.shift_others(_NOTHING, load.numbers.get(pod_state.pod.id, _NOTHING), now)

    def pod_gone(self, pod: PodId) -> None:
        """A pod is gone: keep only what is still in flight on it."""
        for load in self._replicas.values():
            if not _holds(load.numbers.get(pod, _NOTHING)):
                load.numbers.pop(pod, None)
