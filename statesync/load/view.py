"""The load of every pod as this replica sees it: one object, in memory, used on the event loop only.

All of it is synchronous and nothing waits. Discovery, health checks, scrapes and the shared state call in; this file
knows none of them. `pool_state.py` keeps a pool's columns ready for a snapshot.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Final

from schedulers.ttft import ANSWER_TOKENS, likely_cached, prefill_work
from schedulers.types import NOWHERE, PREFIX_BLOCK_TOKENS, LoadSnapshot, Pod, PodId, RequestInfo
from statesync.discovery.changes import PodChange, change_of
from statesync.errors import StateError, UnknownPod, UnknownPool
from statesync.load.eligibility import Eligibility, Listed
from statesync.load.pod_state import Charge, PodState
from statesync.load.pool_state import PoolState, why_empty
from statesync.load.remote_load import RemoteLoad
from statesync.load.subset import Subset
from statesync.types import EngineReport, InflightNumbers, PodStatus

PREDICTED: Final = 4
"""Of so many dispatches to a pod one has its first token predicted: what predictions are worth needs no more."""

_NOTHING = InflightNumbers()

Announce = Callable[[PodId, InflightNumbers], None]
"""Called with this replica's absolute numbers for a pod, on every change. Must not block."""


class LoadView:
    """Pods by pool, which of them may be picked, and what is in flight on each.

    `clock` is the replica's monotonic clock in seconds; `age_s` gives the age of the other replicas' part; `home` are
    this gateway's own labels; `strict` are the pools that take only the models that their pods list.
    """

    def __init__(
        self,
        clock: Callable[[], float],
        announce: Announce | None = None,
        age_s: Callable[[], float] | None = None,
        home: Mapping[str, str] = NOWHERE,
        strict: Collection[str] = (),
    ) -> None:
        self._clock = clock
        self._home = home
        self._announce = announce
        self._age_s = age_s
        self._strict = strict
        self._pool_states: dict[str, PoolState] = {}
        self._eligible: dict[str, Eligibility] = {}
        """By pool: which pods serve which model."""
        self.mixed: set[str] = set()
        """Pools in which models have different candidates."""
        self._pod_states: dict[PodId, PodState] = {}
        """Members of all pools, and pods that are gone but still have open charges (`pool` is None)."""
        self._remote = RemoteLoad(self._pod_states, self._pool_states)
        self._inflight = 0
        self.on_headroom: Callable[[str], None] | None = None
        """Called with the pool whenever one of its pods becomes a candidate: it was saturated and has room again, was
        unblocked, or is new. Waiting requests may then be sent until `snapshot` raises PoolSaturated."""

    # Called by discovery and health checks.

    def set_pods(self, pool: str, pods: Sequence[Pod]) -> tuple[tuple[Pod, ...], tuple[Pod, ...]]:
        """Replace a pool's pods; returns (added, removed). Idempotent.

        A pod that stays keeps its numbers and blockers. A removed pod gets no new requests and its open charges release
        cleanly. If it comes back before that, it gets those charges' numbers back and nothing else.
        Raises StateError, and changes nothing, if another pool holds one of the pods.
        """
        pool_state = self._pool_states.get(pool)
        members = pool_state.members if pool_state is not None else {}
        return self.change_pods(pool, change_of({pod: pod_state.pod for pod, pod_state in members.items()}, pods))

    def change_pods(self, pool: str, change: PodChange) -> tuple[tuple[Pod, ...], tuple[Pod, ...]]:
        """As `set_pods`, given only the difference: the cost grows with the change, not with the pool."""
        self._refuse_shared(pool, change.come)
        if (pool_state := self._pool_states.get(pool)) is None:
            pool_state = self._pool_states[pool] = PoolState(pool, self._home)
            self._eligible[pool] = Eligibility(pool_state, self.mixed, strict=pool in self._strict)
        removed = [pod_state for pod in change.gone if (pod_state := pool_state.members.get(pod)) is not None]
        for gone in removed:
            self._eligible[pool].forget(gone)
            pool_state.remove(gone)
            self._reap(gone)
            self._remote.pod_gone(gone.pod.id)
        added: list[Pod] = []
        joined = False
        for pod in change.come:
            pod_state = pool_state.members.get(pod.id)
            if pod_state is None:
                joined |= pool_state.add(self._state_for(pod))
                added.append(pod)
            elif pod_state.pod != pod:
                pod_state.adopt(pod)
                joined |= pool_state.adopted(pod_state)
        if joined:
            self._call_headroom(pool_state)
        return tuple(added), tuple(gone.pod for gone in removed)

    def block(self, pod: PodId, reason: str) -> None:
        """Make the pod unroutable until every reason is lifted. Raises UnknownPod."""
        pod_state, pool_state = self._member(pod)
        pod_state.blockers.add(reason)
        pool_state.changed(pod_state)

    def unblock(self, pod: PodId, reason: str) -> None:
        """Lift one reason; nothing happens if the pod is gone or was not blocked by it."""
        pod_state = self._pod_states.get(pod)
        if pod_state is None or pod_state.pool is None or reason not in pod_state.blockers:
            return
        pod_state.blockers.discard(reason)
        pool_state = self._pool_states[pod_state.pool]
        if pool_state.changed(pod_state):
            self._call_headroom(pool_state)

    def set_models(self, pod: PodId, models: Listed) -> None:
        """Take in which models the pod lists; None if it has no list. Raises UnknownPod."""
        pod_state, pool_state = self._member(pod)
        if self._eligible[pool_state.pool].set_list(pod_state, models):
            self._call_headroom(pool_state)  # requests may have waited for other pods

    def keep(self, pod: PodId, reasons: frozenset[str]) -> None:
        """Note why health would block the pod; it stays a candidate. Empty: nothing speaks against it.
        Raises UnknownPod."""
        self._member(pod)[0].kept = reasons

    # Called by the data plane, on every request.

    def snapshot(self, pool: str, model: str = "") -> LoadSnapshot:
        """The pods that may be picked for the model, and their load; without a model, for any. The same object,
        `taken_at` included, while nothing changes.

        Raises UnknownPool, NoRoutablePod (every pod is blocked, or there is none), ModelNotServed (no pod serves the
        model) or PoolSaturated (every routable pod is at its `max_inflight`).
        """
        if (pool_state := self._pool_states.get(pool)) is None:
            raise UnknownPool(f"no pool {pool!r}")
        if pool_state.mixed and (subset := self._eligible[pool].subset_of(model)) is not None:
            return self._snapshot_of(pool_state, subset)
        if (latest := pool_state.latest) is not None:
            return latest
        if not len(pool_state):
            raise why_empty(pool, pool_state.members)
        now = self._clock()
        if not pool_state.remote_rate.weight or self._age_s is None:
            return pool_state.snapshot(now, 0.0)
        return pool_state.snapshot(now, self._unseen(pool_state, now))

    def pickable(self, pool: str) -> int:
        """How many candidates a snapshot of a pool that is not `mixed` has. Raises UnknownPool."""
        return len(self._pool_state(pool))

    def room(self, pool: str) -> tuple[int, int, int]:
        """See `PoolState.room`. Raises UnknownPool."""
        return self._pool_state(pool).room()

    def reserve(self, pod: PodId, request: RequestInfo) -> Charge:
        """Count a request onto a pod, before it is sent. Raises UnknownPod.

        Does not check that the pod may be picked: the snapshot holds only such pods.
        """
        if (pod_state := self._pod_states.get(pod)) is None or pod_state.pool is None:
            raise UnknownPod(f"no pod {pod!r}")
        prompt, answer = request.prompt_tokens, request.max_tokens
        cached = likely_cached(request.prefix_hits.get(pod, 0) * PREFIX_BLOCK_TOKENS, prompt)
        uncached = prompt - cached
        now = self._clock()
        work = prefill_work(uncached, cached)
        charge = Charge(pod, prompt + (answer if answer > 0 else ANSWER_TOKENS), uncached, work, cached, now)
        pool_state = self._pool_states[pod_state.pool]
        if not pod_state.dispatched % PREDICTED:
            charge.expected_s = pool_state.expected_s(pod_state, charge)
        pod_state.begin(charge.tokens, uncached, work, now)
        self._inflight += 1
        pool_state.changed(pod_state)
        if self._announce is not None:
            self._announce(pod, pod_state.own())
        return charge

    def promise(self, charge: Charge, request: RequestInfo) -> None:
        """Show what the request of an open charge was promised, in its pod's load."""
        pod_state = self._pod_states[charge.pod]
        pod_state.promise(charge, request)
        if pod_state.pool is not None:
            self._pool_states[pod_state.pool].changed(pod_state)

    def prefill_done(self, charge: Charge) -> None:
        """Give back the pending prefill: the first token has arrived. A second call does nothing."""
        if not charge.work:
            return
        pod_state = self._pod_states[charge.pod]
        pod_state.prefilled(charge.prefill_tokens, charge.work, self._clock())
        charge.prefill_tokens = charge.work = 0
        if pod_state.pool is not None:
            self._pool_states[pod_state.pool].changed(pod_state)
        if self._announce is not None:
            self._announce(charge.pod, pod_state.own())

    def release(self, charge: Charge) -> None:
        """Give back all that the charge still holds, also when its pod is gone. A second call does nothing."""
        if not charge.requests:
            return
        pod_state = self._pod_states[charge.pod]
        pod_state.end(charge, self._clock())
        self._inflight -= 1
        pool_state = None if pod_state.pool is None else self._pool_states[pod_state.pool]
        joined = pool_state is not None and pool_state.changed(pod_state)
        if self._announce is not None:
            self._announce(charge.pod, pod_state.own())
        if pool_state is None:
            self._reap(pod_state)
        elif joined:
            self._call_headroom(pool_state)

    def observe_ttft(self, pod: PodId, seconds: float, expected_s: float = 0.0) -> None:
        """Take one time to first token into the pod's moving averages, with what its charge said was expected. A pod
        that is gone is ignored.

        Call it right after the `prefill_done` of a stream: the pod's pace is then learned from that prefill. A whole
        answer is no sample of the pace: do not call it for one.
        """
        pod_state = self._pod_states.get(pod)
        if pod_state is not None and pod_state.pool is not None:
            self._pool_states[pod_state.pool].answered(pod_state, seconds, expected_s)

    # Called by the scraper and the shared state.

    def report(self, pod: PodId, report: EngineReport, age_s: float = 0.0) -> None:
        """Take an engine's report, read `age_s` ago. Ignored if it is older than the last one, or its pod is gone."""
        pod_state = self._pod_states.get(pod)
        if pod_state is not None and pod_state.pool is not None:
            at = self._clock() - age_s
            if at >= pod_state.reported_at or not pod_state.reported_at:
                pod_state.read(report, at)
                if self._pool_states[pod_state.pool].changed(pod_state):  # its learned limit has grown
                    self._call_headroom(self._pool_states[pod_state.pool])

    def set_remote(self, replica: str, numbers: Mapping[PodId, InflightNumbers], full: bool = False) -> None:
        """Take another replica's absolute numbers. A pod that is absent did not change; if `full`, it has nothing.
        Numbers of pods not known here are kept until the pod appears or the replica goes. Negative ones are 0."""
        for pool_state in self._remote.update(replica, numbers, self._clock(), full):
            self._call_headroom(pool_state)

    def drop_remote(self, replica: str) -> None:
        """Another replica is gone: exactly its numbers go. Unknown replicas are ignored."""
        for pool_state in self._remote.drop(replica, self._clock()):
            self._call_headroom(pool_state)

    # Read by the control plane.

    @property
    def inflight(self) -> int:
        """This replica's requests in flight, over all pods, removed ones included."""
        return self._inflight

    def pools(self) -> list[str]:
        """Every pool that was ever set, in the order of the first time."""
        return list(self._pool_states)

    def generation(self, pool: str) -> int:
        """Changes whenever the pods that may be picked do. Raises UnknownPool."""
        return self._pool_state(pool).generation

    def unseen_by_pool(self) -> dict[str, float]:
        """`LoadSnapshot.unseen` of a snapshot made now, by pool."""
        now = self._clock()
        return {pool: self._unseen(pool_state, now) for pool, pool_state in self._pool_states.items()}

    def pod(self, pod: PodId) -> Pod:
        """Raises UnknownPod."""
        return self._member(pod)[0].pod

    def pool_of(self, pod: PodId) -> str:
        """Raises UnknownPod."""
        return self._member(pod)[1].pool

    def status(self, pod: PodId) -> PodStatus:
        """A pod in full. Raises UnknownPod."""
        pod_state, pool_state = self._member(pod)
        return pool_state.status(pod_state)

    def statuses(self, pool: str | None = None) -> list[PodStatus]:
        """Every pod of one pool, or of all. Raises UnknownPool."""
        pool_states = self._pool_states.values() if pool is None else [self._pool_state(pool)]
        return [pool_state.status(each) for pool_state in pool_states for each in pool_state.members.values()]

    def __repr__(self) -> str:
        pools = ", ".join(f"{name} {len(line)}/{len(line.members)}" for name, line in self._pool_states.items())
        gone = sum(pod_state.pool is None for pod_state in self._pod_states.values())
        counts = f"{self._inflight} in flight; {gone} pods gone with requests open; {len(self._remote)} other replicas"
        return f"<LoadView {pools or 'no pools'}; {counts}>"

    def _snapshot_of(self, pool_state: PoolState, subset: Subset) -> LoadSnapshot:
        """As `snapshot`, for the pods of one subset."""
        pool_state.refresh()
        if (latest := subset.latest) is not None:
            return latest
        subset.refresh()
        if not len(subset):
            rest = self._eligible[pool_state.pool].the_rest()
            if not subset.routable() and rest is not None and rest is not subset:
                return self._snapshot_of(pool_state, rest)  # an open pod may serve the model too
            raise why_empty(pool_state.pool, subset.members, " for the model")
        now = self._clock()
        return subset.snapshot(now, self._unseen(pool_state, now))

    def _unseen(self, pool_state: PoolState, now: float) -> float:
        """See `LoadSnapshot.unseen`."""
        # The rate is that of the view's time, not of now: while the link is down it stays what it was, since the other
        # replicas presumably go on.
        age_s = self._age_s() if self._age_s is not None else 0.0
        return pool_state.remote_rate.per_s(now - age_s) * age_s

    def _call_headroom(self, pool_state: PoolState) -> None:
        if self.on_headroom is not None:
            self.on_headroom(pool_state.pool)

    def _refuse_shared(self, pool: str, come: Sequence[Pod]) -> None:
        for pod in come:
            pod_state = self._pod_states.get(pod.id)
            if pod_state is not None and pod_state.pool is not None and pod_state.pool != pool:
                raise StateError(f"pod {pod.id!r} is in pool {pod_state.pool!r} and cannot be in {pool!r} too")

    def _state_for(self, pod: Pod) -> PodState:
        """The state of a pod that (re)appears: own open requests are kept, the others' numbers added up anew."""
        pod_state = self._pod_states.setdefault(pod.id, PodState(pod))
        pod_state.adopt(pod)
        pod_state.start_over()
        self._remote.add_up(pod_state, self._clock())
        return pod_state

    def _reap(self, pod_state: PodState) -> None:
        if pod_state.pool is None and not pod_state.requests:
            del self._pod_states[pod_state.pod.id]
            if self._announce is not None and pod_state.dispatched:
                self._announce(pod_state.pod.id, _NOTHING)  # also the counter: the store may forget the pod

    def _pool_state(self, pool: str) -> PoolState:
        if (pool_state := self._pool_states.get(pool)) is None:
            raise UnknownPool(f"no pool {pool!r}")
        return pool_state

    def _member(self, pod: PodId) -> tuple[PodState, PoolState]:
        if (pod_state := self._pod_states.get(pod)) is None or pod_state.pool is None:
            raise UnknownPod(f"no pod {pod!r}")
        return pod_state, self._pool_states[pod_state.pool]
