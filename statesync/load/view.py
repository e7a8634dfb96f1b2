"""The load of every pod as this replica sees it: one object, in memory, asked and told on the event loop.

All of it is synchronous and none of it waits: a snapshot is what is known now. Where the knowledge comes from
(discovery, health, scrapes, other replicas) is not known here; they all call in. How a pool's columns are kept
ready for a snapshot is `pool_state.py`.

Measured with 16 pods on one core of this machine class (Python 3.11): snapshot after one change 2.1 us, reserve
0.9 us, prefill_done 0.5 us, release 0.6 us: 4 us a request; an `announce` adds 0.5 us to each change.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final

from schedulers.ttft import ANSWER_TOKENS, prefill_work
from schedulers.types import NOWHERE, PREFIX_BLOCK_TOKENS, LoadSnapshot, Pod, PodId, RequestInfo
from statesync.discovery.changes import PodChange, change_of
from statesync.errors import NoRoutablePod, PoolSaturated, StateError, UnknownPod, UnknownPool
from statesync.load.pod_state import PodState
from statesync.load.pool_state import PoolState
from statesync.load.remote_load import RemoteLoad
from statesync.types import Charge, EngineReport, InflightNumbers, PodStatus

TTFT_ALPHA: Final = 0.2
"""Weight of the newest time to first token in its moving average: the last ten answers make 90 % of it."""

_NOTHING = InflightNumbers()

Announce = Callable[[PodId, InflightNumbers], None]
"""Hears this replica's absolute numbers for a pod, on every change. Must not block."""


class LoadView:
    """Pods by pool, who may be picked, and what is in flight where.

    `clock` is the replica's monotonic clock in seconds; `age_s` says how old the other replicas' part is; `home` are
    this gateway's own labels.
    """

    def __init__(
        self,
        clock: Callable[[], float],
        announce: Announce | None = None,
        age_s: Callable[[], float] | None = None,
        home: Mapping[str, str] = NOWHERE,
    ) -> None:
        self._clock = clock
        self._home = home
        self._announce = announce
        self._age_s = age_s
        self._pool_states: dict[str, PoolState] = {}
        self._pod_states: dict[PodId, PodState] = {}
        """Members of all pools, and pods that are gone but still have open charges (`pool_state` is None)."""
        self._others = RemoteLoad(self._pod_states, self._pool_states)
        self._inflight = 0
        self.on_headroom: Callable[[str], None] | None = None
        """Called with the pool whenever one of its pods becomes one that may be picked: it was saturated and has
        room again, was unblocked, or is new. Whoever waits should go until `snapshot` raises PoolSaturated."""

    # Told by discovery and health.

    def set_pods(self, pool: str, pods: Sequence[Pod]) -> tuple[tuple[Pod, ...], tuple[Pod, ...]]:
        """Take discovery's full truth for a pool; returns (added, removed). Idempotent.

        A kept pod keeps its numbers and blockers. A removed one gets no new requests, its open charges release
        cleanly; if it comes back before they have, it gets those numbers back, and nothing else.
        Raises StateError, and changes nothing, if another pool holds one of the pods.
        """
        pool_state = self._pool_states.get(pool)
        members = pool_state.members if pool_state is not None else {}
        return self.change_pods(pool, change_of({pod: pod_state.pod for pod, pod_state in members.items()}, pods))

    def change_pods(self, pool: str, change: PodChange) -> tuple[tuple[Pod, ...], tuple[Pod, ...]]:
        """As `set_pods`, told only the difference: costs what changes, however many pods the pool has."""
        self._refuse_shared(pool, change.come)
        pool_state = self._pool_states.setdefault(pool, PoolState(pool, self._home))
        removed = [pod_state for pod in change.gone if (pod_state := pool_state.members.get(pod)) is not None]
        for gone in removed:
            pool_state.remove(gone)
            self._reap(gone)
            self._others.left(gone.pod.id)
        added: list[Pod] = []
        joined = False
        for pod in change.come:
            pod_state = pool_state.members.get(pod.id)
            if pod_state is None:
                joined |= pool_state.add(self._seat_for(pod))
                added.append(pod)
            elif pod_state.pod != pod:
                pod_state.adopt(pod)
                joined |= pool_state.adopted(pod_state)
        if joined:
            self._tell_headroom(pool_state)
        return tuple(added), tuple(gone.pod for gone in removed)

    def block(self, pod: PodId, reason: str) -> None:
        """Make the pod unroutable until every reason is lifted. Raises UnknownPod."""
        pod_state, pool_state = self._member(pod)
        pod_state.blockers.add(reason)
        pool_state.changed(pod_state)

    def unblock(self, pod: PodId, reason: str) -> None:
        """Lift one reason; nothing happens if the pod is gone or was not blocked by it."""
        pod_state = self._pod_states.get(pod)
        if pod_state is None or pod_state.pool_state is None or reason not in pod_state.blockers:
            return
        pod_state.blockers.discard(reason)
        if pod_state.pool_state.changed(pod_state):
            self._tell_headroom(pod_state.pool_state)

    # Asked and told by the data plane, on every request.

    def snapshot(self, pool: str) -> LoadSnapshot:
        """The pods that may be picked, and their load; the same object as long as nothing changes (`taken_at` too).

        Raises UnknownPool, NoRoutablePod (every pod is blocked, or there is none) or PoolSaturated (every
        routable pod is at its `max_inflight`).
        """
        pool_state = self._pool_states.get(pool)
        if pool_state is None:
            raise UnknownPool(f"no pool {pool!r}")
        if pool_state.latest is not None:
            return pool_state.latest
        if not len(pool_state):
            raise self._why_empty(pool_state)
        now = self._clock()
        if not pool_state.elsewhere.weight or self._age_s is None:
            return pool_state.snapshot(now, 0.0)
        # The rate is that of the moment up to which the others were heard: if nothing comes because the link is down,
        # it stays what it was, as they presumably go on.
        age_s = self._age_s()
        return pool_state.snapshot(now, pool_state.elsewhere.per_s(now - age_s) * age_s)

    def reserve(self, pod: PodId, request: RequestInfo) -> Charge:
        """Count a request onto a pod, before it is sent. Raises UnknownPod.

        Only counts: that the pod may be picked is the snapshot's promise.
        """
        pod_state = self._pod_states.get(pod)
        if pod_state is None or pod_state.pool_state is None:
            raise UnknownPod(f"no pod {pod!r}")
        prompt, answer = request.prompt_tokens, request.max_tokens
        cached = request.prefix_hits.get(pod, 0) * PREFIX_BLOCK_TOKENS
        if cached > prompt:
            cached = prompt
        uncached = prompt - cached
        now = self._clock()
        work = prefill_work(uncached, cached)
        charge = Charge(pod, prompt + (answer if answer > 0 else ANSWER_TOKENS), uncached, work, cached, now)
        pod_state.begin(charge.tokens, uncached, work, now)
        self._inflight += 1
        pod_state.pool_state.changed(pod_state)
        if self._announce is not None:
            self._announce(pod, pod_state.own())
        return charge

    def prefill_done(self, charge: Charge) -> None:
        """Give back the pending prefill: the first token is here. The second call does nothing."""
        if not charge.work:
            return
        pod_state = self._pod_states[charge.pod]
        pod_state.prefilled(charge.prefill_tokens, charge.work, self._clock())
        charge.prefill_tokens = charge.work = 0
        if pod_state.pool_state is not None:
            pod_state.pool_state.changed(pod_state)
        if self._announce is not None:
            self._announce(charge.pod, pod_state.own())

    def release(self, charge: Charge) -> None:
        """Give back all that the charge still holds, also when its pod is gone. The second call does nothing."""
        if not charge.requests:
            return
        pod_state = self._pod_states[charge.pod]
        pod_state.requests -= 1
        pod_state.tokens -= charge.tokens
        if charge.work:  # it failed before it had a first token: neither its time nor its place says anything
            pod_state.prefilling -= 1
            pod_state.prefill_tokens -= charge.prefill_tokens
            pod_state.prefill_work -= charge.work
        else:
            pod_state.stayed(self._clock() - charge.since)
        charge.requests = charge.tokens = charge.prefill_tokens = charge.work = 0
        self._inflight -= 1
        pool_state = pod_state.pool_state
        joined = pool_state is not None and pool_state.changed(pod_state)
        if self._announce is not None:
            self._announce(charge.pod, pod_state.own())
        if pool_state is None:
            self._reap(pod_state)
        elif joined:
            self._tell_headroom(pool_state)

    def observe_ttft(self, pod: PodId, seconds: float) -> None:
        """Take one time to first token into the pod's moving average. A pod that is gone is ignored.

        Called right after the `prefill_done` of a stream, it also says that this was a first token, and not a whole
        answer: from what the prefill took, the pod's pace is learned.
        """
        pod_state = self._pod_states.get(pod)
        if pod_state is not None and pod_state.pool_state is not None:
            old = pod_state.ttft_ewma_s
            pod_state.ttft_ewma_s = old + TTFT_ALPHA * (seconds - old) if old else seconds
            pod_state.pool_state.learn(pod_state)
            pod_state.pool_state.changed(pod_state)

    # Told by the scraper and by other replicas.

    def report(self, pod: PodId, report: EngineReport, age_s: float = 0.0) -> None:
        """Take an engine's own report, read `age_s` ago. One that is older than the last, or of a pod that is gone, is
        ignored."""
        pod_state = self._pod_states.get(pod)
        if pod_state is not None and pod_state.pool_state is not None:
            at = self._clock() - age_s
            if at >= pod_state.reported_at or not pod_state.reported_at:
                pod_state.read(report, at)
                pod_state.pool_state.changed(pod_state)

    def set_share(self, replica: str, numbers: Mapping[PodId, InflightNumbers]) -> None:
        """Take another replica's absolute numbers; a pod that is absent did not change.

        Numbers of pods not known here are kept until the pod appears or the replica goes. Negative ones count as 0.
        """
        for pool_state in self._others.put(replica, numbers, self._clock()):
            self._tell_headroom(pool_state)

    def drop_share(self, replica: str) -> None:
        """Another replica is gone: exactly its share goes. Unknown replicas are ignored.

        `set_share` after this replaces what it had told as a whole.
        """
        for pool_state in self._others.drop(replica, self._clock()):
            self._tell_headroom(pool_state)

    # Read by the control plane.

    @property
    def inflight(self) -> int:
        """This replica's requests in flight, over all pods, those that are gone included."""
        return self._inflight

    def pools(self) -> list[str]:
        """Every pool that was ever set, in that order."""
        return list(self._pool_states)

    def generation(self, pool: str) -> int:
        """Changes whenever the pods that may be picked do. Raises UnknownPool."""
        return self._pool_state(pool).generation

    def unseen_by_pool(self) -> dict[str, float]:
        """What snapshots made now would say of it."""
        age_s = self._age_s() if self._age_s is not None else 0.0
        heard_until = self._clock() - age_s
        return {pool: pool_state.elsewhere.per_s(heard_until) * age_s for pool, pool_state in self._pool_states.items()}

    def pod(self, pod_id: PodId) -> Pod:
        """Raises UnknownPod."""
        return self._member(pod_id)[0].pod

    def pool_of(self, pod_id: PodId) -> str:
        """Raises UnknownPod."""
        return self._member(pod_id)[1].pool

    def status(self, pod: PodId) -> PodStatus:
        """A pod in full. Raises UnknownPod."""
        return _status(*self._member(pod))

    def statuses(self, pool: str | None = None) -> list[PodStatus]:
        """Every pod of one pool, or of all. Raises UnknownPool."""
        pool_states = self._pool_states.values() if pool is None else [self._pool_state(pool)]
        return [
            _status(pod_state, pool_state) for pool_state in pool_states for pod_state in pool_state.members.values()
        ]

    def __repr__(self) -> str:
        pools = ", ".join(f"{name} {len(line)}/{len(line.members)}" for name, line in self._pool_states.items())
        gone = len(self._pod_states) - sum(len(line.members) for line in self._pool_states.values())
        return (
            f"<LoadView {pools or 'no pools'}; {self._inflight} in flight; {gone} pods gone with requests open; "
            f"{len(self._others)} other replicas>"
        )

    def _tell_headroom(self, pool_state: PoolState) -> None:
        if self.on_headroom is not None:
            self.on_headroom(pool_state.pool)

    def _refuse_shared(self, pool: str, come: Sequence[Pod]) -> None:
        for pod in come:
            pod_state = self._pod_states.get(pod.id)
            if pod_state is not None and pod_state.pool_state is not None and pod_state.pool_state.pool != pool:
                raise StateError(
                    f"pod {pod.id!r} is in pool {pod_state.pool_state.pool!r} and cannot be in {pool!r} too"
                )

    def _seat_for(self, pod: Pod) -> PodState:
        """The seat of a pod that (re)appears: own open requests kept, the others' numbers added up anew."""
        pod_state = self._pod_states.setdefault(pod.id, PodState(pod))
        pod_state.adopt(pod)
        pod_state.start_over()
        self._others.seated(pod_state, self._clock())
        return pod_state

    def _reap(self, pod_state: PodState) -> None:
        if pod_state.pool_state is None and not pod_state.requests:
            del self._pod_states[pod_state.pod.id]
            if self._announce is not None and pod_state.dispatched:
                self._announce(pod_state.pod.id, _NOTHING)  # also the counter: whoever stores it may forget the pod

    def _pool_state(self, pool: str) -> PoolState:
        if (pool_state := self._pool_states.get(pool)) is None:
            raise UnknownPool(f"no pool {pool!r}")
        return pool_state

    def _member(self, pod: PodId) -> tuple[PodState, PoolState]:
        pod_state = self._pod_states.get(pod)
        if pod_state is None or pod_state.pool_state is None:
            raise UnknownPod(f"no pod {pod!r}")
        return pod_state, pod_state.pool_state

    @staticmethod
    def _why_empty(pool_state: PoolState) -> StateError:
        if any(not pod_state.blockers for pod_state in pool_state.members.values()):
            return PoolSaturated(f"every routable pod of pool {pool_state.pool!r} is at its max_inflight")
        return NoRoutablePod(f"pool {pool_state.pool!r} has {len(pool_state.members)} pods, none of them routable")


def _status(pod_state: PodState, pool_state: PoolState) -> PodStatus:
    return PodStatus(
        pod_state.pod,
        pool_state.pool,
        pod_state.load(),
        not pod_state.blockers,
        tuple(sorted(pod_state.blockers)),
        pod_state.requests,
    )
