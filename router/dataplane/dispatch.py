"""Stage 4: snapshot -> pick -> reserve. Synchronous from the snapshot to the reservation, so that no two requests see
the same idle pod. Knows policies by their protocol only. Where a policy raises or answers nonsense, the safe policy
decides.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from time import perf_counter
from types import MappingProxyType
from typing import Final

from router.dataplane.exchange import Exchange, Placement, RoutedRequest
from router.dataplane.request.session_key import SessionKeys
from router.dataplane.request.tenant_headers import may_choose
from router.errors import BadRequest, PolicyNotAllowed
from router.plugins.samples import Samples
from router.policy.circuit_breaker import PolicyCircuitBreaker
from router.policy.model import LivePolicy
from router.settings import Pool, Sessions
from router.trials.trial import Trial
from schedulers.guard import fault, is_sound, raised
from schedulers.protocols import Scheduler
from schedulers.types import NO_SLO, PREFIX_BLOCK_TOKENS, Decision, LoadSnapshot, Pod, PodId, Rejection, RequestInfo
from statesync.discovery.ranks import process_of
from statesync.errors import NoRoutablePod, PoolSaturated, UnknownPod
from statesync.load.pod_state import Charge
from statesync.load.view import LoadView
from statesync.prefix.accuracy import PrefixAccuracy
from statesync.prefix.index import PrefixIndex

# A named tuple's own constructor costs 0.75 us for a RequestInfo, this 0.35 us.
_new: Final = tuple.__new__

PINNED: Final = "pinned"
"""The policy of a request that can only go to one pod, in answers and metrics."""

MAX_COUNTED: Final = 10_000
"""Pools and models whose requests are counted."""

Placed = Callable[[PodId, Sequence[int]], None]
"""Publishes a placement to the other replicas: the pod and the block hashes of the prompt."""


class Dispatch:
    """Picks a pod for an exchange and reserves room on it."""

    def __init__(
        self,
        view: LoadView,
        prefix: PrefixIndex,
        live: Mapping[str, LivePolicy],
        guard: PolicyCircuitBreaker,
        by_name: Mapping[str, Scheduler],
        placed: Placed | None,
        rng: Callable[[], int],
        trials: Mapping[str, Trial] = MappingProxyType({}),
        samples: Samples | None = None,
        accuracy: PrefixAccuracy | None = None,
        sessions: SessionKeys | None = None,
        session_pools: set[str] | None = None,
    ) -> None:
        """`live` holds the policies and `trials` the running trials, by pool; `by_name` the policies that a request may
        name in a header. `placed` is None where no other replica reads placements. `rng` returns 64 random bits.
        `samples`, if given, keeps some of the requests and answers; `accuracy` counts what was predicted.
        `sessions` finds the session of a request in the pools of `session_pools`, a set that may change."""
        self._view = view
        self._mixed = view.mixed
        self._prefix = prefix
        self._live = live
        self._guard = guard
        self._slow_s = guard.limits.slow_s
        self._by_name = by_name
        self._placed = placed
        self._rng = rng
        self._trials = trials
        self.samples = samples
        """May be set and taken away while requests run."""
        self._accuracy = accuracy.pods if accuracy is not None else None
        self._sessions = sessions or SessionKeys(Sessions())
        self._session_pools = session_pools if session_pools is not None else set()
        self._sequence: dict[str, int] = {}
        """Requests by pool, or by pool and model. A client may invent models, so it is emptied at `MAX_COUNTED`."""

    def place(self, exchange: Exchange, pool: Pool) -> Placement | Rejection:
        """Choose a pod, reserve room on it and set `placement`.

        Raises NoRoutablePod or PoolSaturated from the view, PolicyNotAllowed or BadRequest for a header.
        """
        routed = exchange.routed
        info = self._info(exchange, routed)  # first: its priority orders the queue of a saturated pool
        snapshot = self._snapshot(pool, routed)
        scheduler = self._scheduler(exchange, pool)
        trial = self._trials.get(pool.name) if self._trials else None
        if trial is not None:
            if b"x-turnout-policy" in exchange.header_map or exchange.upgrade:
                trial = None  # a request that names its policy takes part in no trial, nor does a WebSocket
            else:
                scheduler = trial.candidate(routed, info) or scheduler
        began = perf_counter()
        answer = self._pick(scheduler, info, snapshot)
        took_s = perf_counter() - began
        routed.metrics.decision.observe(took_s)
        if self.samples is not None and exchange.arrived >= self.samples.next_at:
            self.samples.take(exchange.arrived, info, snapshot, answer)
        if took_s > self._slow_s:
            self._guard.slow(scheduler, pool.name, took_s, answer)
        if trial is not None and not exchange.attempts:  # a retry does not show what a policy would do with a request
            trial.decided(routed, info, snapshot, answer, took_s)
        if isinstance(answer, Rejection):
            return answer
        pod = self._view.pod(answer.pod)
        placement = Placement(pod, answer.policy, self._view.reserve(pod.id, info), info)
        exchange.placement = placement  # at once: what is reserved is given back, whatever happens from here
        if routed.slo is not None:
            self._promise(placement)
        if routed.chain:
            self._count_prefix(routed, placement.charge, info)
        return placement

    def choose(self, pool: str, info: RequestInfo) -> Placement | Rejection:
        """The pod that the live policy picks for a request that has no exchange, with room reserved there. Raises
        NoRoutablePod and PoolSaturated."""
        answer = self._pick(self._live[pool].scheduler, info, self._view.snapshot(pool, info.model))
        if isinstance(answer, Rejection):
            return answer
        pod = self._view.pod(answer.pod)
        return Placement(pod, answer.policy, self._view.reserve(pod.id, info), info)

    def _snapshot(self, pool: Pool, routed: RoutedRequest) -> LoadSnapshot:
        """The pods that the policy chooses from. Raises NoRoutablePod or PoolSaturated."""
        return self._view.snapshot(pool.name, routed.call.model)

    def pin(self, exchange: Exchange, pins: Sequence[PodId]) -> Placement:
        """Reserve room on the first of these pods that is there and was not tried, whatever its health: only it has
        what the request needs. No policy is asked. One of several does not wait: most of them do not have it.

        Raises PoolSaturated if the request has to wait for the pod, NoRoutablePod if there is none.
        """
        routed = exchange.routed
        info = self._info(exchange, routed)
        for id in pins:
            if id in exchange.tried:
                continue
            try:
                status = self._view.status(id)
            except UnknownPod:
                if routed.waits:
                    raise PoolSaturated(f"pod {id!r} is away") from None
                continue
            limit = status.limit
            full = limit is not None and status.load.inflight >= limit and not status.blockers and len(pins) == 1
            if (full and routed.body) or (routed.waits and status.blockers):
                raise PoolSaturated(f"pod {id!r} has no room")
            placement = Placement(status.pod, PINNED, self._view.reserve(id, info), info)
            exchange.placement = placement
            if routed.slo is not None:
                self._promise(placement)
            if routed.chain:
                self._count_prefix(routed, placement.charge, info)
            return placement
        raise NoRoutablePod("the pod that has its state is gone")

    def alternatives(self, exchange: Exchange, most: int) -> list[Pod]:
        """The pods that would get a placed exchange if its own failed it now, the best first. Nothing is reserved."""
        pods: list[Pod] = []
        routed = exchange.routed
        if exchange.placement is None or routed.pins is not None:
            return pods
        scheduler = self._live[routed.pool].scheduler
        info = exchange.placement.info._replace(tried=exchange.tried | self.together(exchange.placement.pod.id))
        try:
            snapshot = self._view.snapshot(routed.pool, routed.call.model)
        except (NoRoutablePod, PoolSaturated):
            return pods
        while len(pods) < most and not info.tried.issuperset(snapshot.positions or snapshot.position_of()):
            answer = self._pick(scheduler, info, snapshot)
            if isinstance(answer, Rejection):
                break
            pods.append(self._view.pod(answer.pod))
            info = info._replace(tried=info.tried | self.together(answer.pod))
        return pods

    def move(self, exchange: Exchange, before: Placement, pod: PodId) -> Placement:
        """Count a placed exchange on another pod, which serves it in the place of the one that was chosen."""
        after = Placement(self._view.pod(pod), before.policy, self._view.reserve(pod, before.info), before.info)
        exchange.placement = after
        self._view.release(before.charge)
        if exchange.routed.chain:
            self._prefix.place(pod, exchange.routed.chain)
            if self._placed is not None:
                self._placed(pod, exchange.routed.chain)
        return after

    def together(self, pod: PodId) -> frozenset[PodId]:
        """The pod, and the other ranks of its process, which fail with it."""
        try:
            return frozenset(process_of(self._view.pod(pod)))
        except UnknownPod:
            return frozenset((pod,))

    def session(self, exchange: Exchange) -> str:
        """The session of a request, as policies see it."""
        return self._info(exchange, exchange.routed).session_key

    def _info(self, exchange: Exchange, routed: RoutedRequest) -> RequestInfo:
        """What the policy is given. Made once for each pool; another attempt renews `tried`, hits and entropy."""
        if routed.info is not None:
            hits = self._prefix.match(routed.chain)
            return routed.info._replace(tried=exchange.tried, prefix_hits=hits, entropy=self._rng())
        call, pool = routed.call, routed.pool
        # Where models have different pods, those of each model are taken in turn: a turn of all of them would give one
        # model the odd numbers and another the even ones.
        counted = f"{pool} {call.model}" if pool in self._mixed else pool
        sequence = self._sequence[counted] = self._sequence.get(counted, -1) + 1
        header_map = exchange.header_map
        if sequence == 0 and len(self._sequence) > MAX_COUNTED:
            self._sequence.clear()
        if pool in self._session_pools:
            kind = header_map.get(b"content-type", b"")
            session = call.session_key if call.named else self._sessions.find(exchange.kept, kind, routed.body)
        elif b"x-session-id" in header_map:
            session = header_map[b"x-session-id"].decode("latin-1")
        else:
            session = call.session_key
        if exchange.tenant is not None and session:
            session = f"{exchange.tenant.name}\n{session}"  # another tenant's session of this name is another session
        if call.prompt:
            routed.chain = self._prefix.chain(call.model, call.prompt)
        info = routed.info = _new(
            RequestInfo,
            (
                exchange.request_id.decode("latin-1"),
                call.model,
                call.prompt_tokens,
                call.max_tokens,
                exchange.arrived,
                self._rng(),
                sequence,
                session,
                _priority(header_map) if b"x-turnout-priority" in header_map else 0,
                routed.deadline or None,
                self._prefix.match(routed.chain),
                exchange.tried,
                routed.slo or NO_SLO,
            ),
        )
        return info

    def _scheduler(self, exchange: Exchange, pool: Pool) -> Scheduler:
        wanted = exchange.header_map.get(b"x-turnout-policy")
        if wanted is None:
            return self._live[pool.name].scheduler
        name = wanted.decode("latin-1")
        allowed = pool.allowed_policies
        if name not in self._by_name or ("*" not in allowed and name not in allowed):
            if exchange.fallback_state is not None and exchange.fallback_state.home.pool != pool.name:
                return self._live[pool.name].scheduler  # the header was meant for another pool
            names = self._by_name if "*" in allowed else allowed
            offered = ", ".join(name for name in names if may_choose(name, exchange.tenant)) or "none"
            raise PolicyNotAllowed(
                f"Pool {pool.name!r} does not let a request choose policy {name[:64]!r}; allowed: {offered}."
            )
        return self._guard.stand_in(self._by_name[name], pool.name)

    def _pick(self, scheduler: Scheduler, info: RequestInfo, snapshot: LoadSnapshot) -> Decision | Rejection:
        """The policy's answer if it is sound, with the policy's own name; else the answer of the safe policy."""
        # A plugin's answer may be anything; compiled, a declared type would be enforced here.
        pick: Callable[[RequestInfo, LoadSnapshot], object] = scheduler.pick
        try:
            answer = pick(info, snapshot)
            if isinstance(answer, Decision):
                if answer.pod in (snapshot.positions or snapshot.position_of()) and answer.pod not in info.tried:
                    name = scheduler.name  # a header and a metric get only the policy's own name
                    return answer if answer.policy == name else answer._replace(policy=name)
            elif isinstance(answer, Rejection) and is_sound(answer):
                return answer
            failure = fault(answer, info, snapshot)
            assert failure is not None
        except Exception as error:  # noqa: BLE001  a policy may be a plugin
            failure = raised(error)
        return self._guard.failed(scheduler, info, snapshot, failure)

    def _promise(self, placement: Placement) -> None:
        if placement.info.slo.tpot_s:
            self._view.promise(placement.charge, placement.info)

    def _count_prefix(self, routed: RoutedRequest, charge: Charge, info: RequestInfo) -> None:
        metrics, pod = routed.metrics, charge.pod
        metrics.prefix_queries_tokens += info.prompt_tokens
        hits = info.prefix_hits.get(pod)
        known = min(info.prompt_tokens, hits * PREFIX_BLOCK_TOKENS) if hits else 0
        metrics.prefix_hits_tokens += known
        if self._accuracy is not None:
            counts = self._accuracy[pod]
            counts.asked += info.prompt_tokens
            counts.expected += known  # without the guess in `charge.cached`: the index is judged
        self._prefix.place(pod, routed.chain)
        if self._placed is not None:
            self._placed(pod, routed.chain)


def _priority(header_map: Mapping[bytes, bytes]) -> int:
    try:
        return int(header_map[b"x-turnout-priority"])
    except ValueError:
        raise BadRequest("The header x-turnout-priority must be a whole number.") from None
