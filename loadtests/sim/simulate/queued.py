"""Simulated replicas with a bound on each pod's requests and the gateway's own queue behind it: its order, its fairness
between tenants and its early refusals, in virtual time. A replica's state without a queue is `replica.py`'s.
"""

from __future__ import annotations

import heapq
from collections.abc import Mapping
from functools import partial
from itertools import count
from typing import NamedTuple

from loadtests.sim.simulate.replica import POOL, Replica, SentRequest
from loadtests.sim.simulate.replicas import MODEL, Replicas, Sharing
from loadtests.sim.simulate.traces import Arrival
from loadtests.sim.simulate.world import HELD, Shed, World
from router.dataplane.drain_rate import DrainRate
from router.dataplane.fair_queue import FairQueue, Lane
from router.dataplane.fair_share import FairShares, ServiceCharge, TenantCounter, TenantWeight, prefilled
from router.settings import Limits
from schedulers.protocols import Scheduler
from schedulers.types import Rejection
from statesync.errors import PoolSaturated


class Waiting:
    """A request in a queue."""

    def __init__(self, sent: SentRequest, lane: Lane[Waiting]) -> None:
        self.queued = True
        self.sent = sent
        self.lane = lane


class QueueOptions(NamedTuple):
    """How requests wait."""

    weights: Mapping[str, TenantWeight]
    """By tenant; tenants that are not there have weight 1."""
    fair: bool = True
    """Whether each tenant has a lane of its own; if not, all are in one: first come, first served."""
    max_queue: int = Limits().max_queue
    queue_timeout_s: float = Limits().queue_timeout_s


class ReplicaQueue:
    """The queue of one replica."""

    def __init__(self, replica: Replica, shares: FairShares, now: float) -> None:
        self.replica = replica
        self.shares = shares
        self.order: FairQueue[Waiting] = FairQueue(shares.pool(POOL))
        self.rate = DrainRate(now)
        self.waiting: dict[int, Waiting] = {}
        self.due = False
        """Whether it is about to be served."""


class QueuedReplicas(Replicas):
    """Replicas whose pods take `max_inflight` requests at a time; the others wait."""

    def __init__(
        self,
        world: World,
        scheduler: Scheduler,
        unit_tokens: int,
        options: QueueOptions,
        max_inflight: int,
        sharing: Sharing | None = None,
        *,
        seed: int = 0,
    ) -> None:
        self.options = options
        self._queues: dict[Replica, ReplicaQueue] = {}
        self._charges: dict[int, tuple[FairShares, ServiceCharge]] = {}
        self._tickets = count()
        super().__init__(world, scheduler, unit_tokens, sharing, seed=seed, max_inflight=max_inflight)

    @property
    def waiting(self) -> int:
        """Requests that wait, in all replicas."""
        return sum(len(queue.waiting) for queue in self._queues.values())

    def route(self, number: int, arrival: Arrival, /) -> int | None:
        """The first attempt, or the queue. Raises Shed."""
        replica = self.replicas[self._rng.randrange(len(self.replicas))]
        replica.admitted()
        chain = replica.prefix.chain(MODEL, [self._prompt(arrival)]) if arrival.units else []
        return self._route(SentRequest(number, arrival, replica, chain))

    def first_token(self, number: int, /) -> None:
        """The pending prefill is given back: its tenant may send more."""
        super().first_token(number)
        replica = self._open[number].replica
        if prefilled(self._charges[number][1]) and replica in self._queues:
            self._soon(self._queues[replica])

    def finished(self, number: int, cached_tokens: int | None, /) -> None:
        """All that the request held is given back, and its true length is charged."""
        shares, charge = self._charges.pop(number)
        shares.settle(charge, self._open[number].arrival.output_tokens)
        replica = self._open[number].replica
        super().finished(number, cached_tokens)
        if replica in self._queues:
            self._soon(self._queues[replica])

    def kill(self, which: int) -> None:
        """A replica ends: the clients of the requests that wait there ask another one. Those that pods work on end as
        they are."""
        gone = self.replicas.pop(which)
        queue = self._queues.pop(gone)
        for other in self._queues.values():
            other.shares.replica_gone(gone.name)
        for waiting in list(queue.waiting.values()):
            self._step_out(queue, waiting)
            sent = waiting.sent
            replica = self.replicas[self._rng.randrange(len(self.replicas))]
            try:
                pod = self._route(SentRequest(sent.number, sent.arrival, replica, sent.chain))
            except Shed:
                self._world.refuse(sent.number)
                continue
            if pod is not None and pod != HELD:
                self._world.release(sent.number, pod, self)

    def _start(self) -> Replica:
        replica = super()._start()

        def share(name: str, tokens: int) -> None:
            self._spread(replica, lambda other: self._served(other, replica, {name: tokens}))

        queue = self._queues[replica] = ReplicaQueue(replica, FairShares(self.options.weights, share), self._world.now)
        replica.view.on_headroom = lambda _: self._soon(queue)
        return replica

    def _served(self, other: Replica, replica: Replica, served: Mapping[str, int]) -> None:
        if other in self._queues:
            self._queues[other].shares.served_elsewhere(replica.name, served)

    def _route(self, sent: SentRequest) -> int | None:
        queue = self._queues[sent.replica]
        if self.options.fair and self._holds(queue, queue.shares.counter(POOL, sent.arrival.tenant)):
            return self._enter(queue, sent)
        if self.options.fair and queue.waiting:
            pod = self._enter(queue, sent)
            self._soon(queue)
            return pod
        try:
            return self._dispatch(queue, sent)
        except PoolSaturated:
            return self._enter(queue, sent)

    def _dispatch(self, queue: ReplicaQueue, sent: SentRequest) -> int | None:
        """Raises PoolSaturated, and Shed where the policy refuses."""
        pod = self._place(sent)
        if isinstance(pod, Rejection):
            raise Shed(f"{self.scheduler.name} refused request {sent.number}: {pod.reason}")
        if pod is not None:
            arrival = sent.arrival
            waits = sent.charge.prefill_tokens if sent.charge is not None else 0
            charge = queue.shares.begin(POOL, arrival.tenant, arrival.prompt_tokens, arrival.output_tokens, waits)
            self._charges[sent.number] = queue.shares, charge
            self._open[sent.number] = sent
        return pod

    def _enter(self, queue: ReplicaQueue, sent: SentRequest) -> int:
        """Let the request wait, as `Admission.wait` does. Raises Shed."""
        now, options, tenant = self._world.now, self.options, sent.arrival.tenant
        name = tenant if options.fair else ""
        lane = queue.order.lane(name, queue.shares.counter(POOL, name))
        ahead = queue.order.ahead(lane, lane.ahead(sent.arrival.priority))
        full = len(queue.waiting) >= options.max_queue and not (
            options.fair and queue.order.has_room(lane, options.max_queue)
        )
        if full or ahead > options.queue_timeout_s * queue.rate.at_most_per_s(now):
            raise Shed(f"request {sent.number} would wait too long")
        waiting = Waiting(sent, lane)
        self._step_back(queue, waiting)
        heapq.heappush(lane.entries, (-sent.arrival.priority, next(self._tickets), waiting))
        self._world.at(now + options.queue_timeout_s, partial(self._expire, queue, waiting))
        return HELD

    def _expire(self, queue: ReplicaQueue, waiting: Waiting) -> None:
        if waiting.queued:
            self._step_out(queue, waiting)
            queue.order.compact()
            self._world.refuse(waiting.sent.number)

    def _soon(self, queue: ReplicaQueue) -> None:
        if queue.waiting and not queue.due:
            queue.due = True
            self._world.at(self._world.now, partial(self._serve, queue))

    def _serve(self, queue: ReplicaQueue) -> None:
        queue.due = False
        queue.order.serve(partial(self._attempt, queue), partial(self._holds, queue))

    def _holds(self, queue: ReplicaQueue, counter: TenantCounter) -> bool:
        return self.options.fair and queue.shares.pool(POOL).leaves_places(counter, queue.replica.view.room)

    def _attempt(self, queue: ReplicaQueue, waiting: Waiting) -> bool:
        sent = waiting.sent
        self._step_out(queue, waiting)
        try:
            pod = self._dispatch(queue, sent)
        except PoolSaturated:
            self._step_back(queue, waiting)
            return False
        queue.rate.leaves(self._world.now, sent.arrival.prompt_tokens + sent.arrival.output_tokens)
        if pod is None:
            self._world.refuse(sent.number)
        else:
            self._world.release(sent.number, pod, self)
        return True

    def _step_out(self, queue: ReplicaQueue, waiting: Waiting) -> None:
        waiting.queued = False
        del queue.waiting[waiting.sent.number]
        if not queue.waiting:
            queue.rate.pauses(self._world.now)
        waiting.lane.ends(waiting.sent.arrival.priority)

    def _step_back(self, queue: ReplicaQueue, waiting: Waiting) -> None:
        waiting.queued = True
        if not queue.waiting:
            queue.rate.goes_on(self._world.now)
        queue.waiting[waiting.sent.number] = waiting
        waiting.lane.begins(waiting.sent.arrival.priority)
