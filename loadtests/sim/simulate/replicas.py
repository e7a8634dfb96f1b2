"""Simulated gateway replicas behind a load balancer; only clock and network are replaced.

An update of one replica reaches the others `age_s` later, as through a shared store whose view is that old. Each
request goes to a random replica. One replica's own state is `replica.py`.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from functools import partial
from typing import Final, NamedTuple

from loadtests.sim.simulate.kv_events import KvEventFleet
from loadtests.sim.simulate.replica import POOL, Prediction, Replica, SentRequest
from loadtests.sim.simulate.traces import Arrival
from loadtests.sim.simulate.world import Failure, Shed, World
from router.errors import ConnectFailed, CutMidAnswer, PodFailure, ResetBeforeAnswer
from router.settings import Health
from schedulers.protocols import Scheduler
from schedulers.types import BYTES_PER_TOKEN, PREFIX_BLOCK_TOKENS, Decision, Pod, PodId, Rejection, RequestInfo
from statesync.discovery.changes import PodChange
from statesync.errors import NoRoutablePod
from statesync.load.view import LoadView
from statesync.types import EngineReport, InflightNumbers

MODEL: Final = "model"

REPORT_S: Final = 1.0
"""How often an engine's own numbers are read: the gateway's `scrape.interval_s`."""

PROBE_S: Final = Health().interval_s
"""How often pods are probed: the gateway's `health.interval_s`."""


_FAILURES: Final[Mapping[Failure, type[PodFailure]]] = {
    Failure.REFUSED: ConnectFailed,
    Failure.RESET: ResetBeforeAnswer,
    Failure.CUT: CutMidAnswer,
}


class Sharing(NamedTuple):
    """The number of replicas, and how they share state."""

    replicas: int = 1
    age_s: float = 0.0
    """Age of the others' part of a replica's view."""
    shared: bool = True
    """Whether replicas share updates, and a restarted one gets the state it missed."""
    kv_events: bool = False
    """Whether each replica follows what the pods publish of their caches."""


class Replicas:
    """A `Router` made of R replicas that run one policy."""

    def __init__(
        self,
        world: World,
        scheduler: Scheduler,
        unit_tokens: int,
        sharing: Sharing | None = None,
        *,
        seed: int = 0,
        max_inflight: int | None = None,
    ) -> None:
        """`max_inflight`: of each pod; then the router is a `QueuedReplicas`, for these do not queue."""
        self._world = world
        self._rng = random.Random(seed)
        self._health_rng = random.Random(seed)
        """Of ejections: their number must not change which replica gets a request."""
        self._sharing = sharing or Sharing()
        self._unit_tokens = unit_tokens
        self.scheduler = scheduler
        """Decides for all of them."""
        self._pods = [
            Pod(PodId(f"pod-{at}"), f"127.0.0.1:{at}", max_inflight=max_inflight) for at in range(len(world.engines))
        ]
        self._at = {pod.id: at for at, pod in enumerate(self._pods)}
        self._members = {pod.id: pod for at, pod in enumerate(self._pods) if world.serves[at]}
        """Discovery's list."""
        self._started = 0
        self.replicas = [self._start() for _ in range(self._sharing.replicas)]
        if self._sharing.kv_events:
            fleet = KvEventFleet(world, unit_tokens)
            for replica in self.replicas:
                fleet.follow(replica, self._pods)
        self._open: dict[int, SentRequest] = {}
        self.predictions: list[Prediction] = []
        """Of all first tokens so far, where there was one."""
        for at in range(len(self._pods)):
            world.every(REPORT_S, self._rng.random() * REPORT_S, partial(self._report, at))
        world.every(PROBE_S, PROBE_S, self._probe)

    # The stages of a request, as the data plane takes them.

    def route(self, number: int, arrival: Arrival, /) -> int | None:
        """The first attempt. Raises Shed."""
        replica = self.replicas[self._rng.randrange(len(self.replicas))]
        replica.admitted()
        chain = replica.prefix.chain(MODEL, [self._prompt(arrival)]) if arrival.units else []
        sent = SentRequest(number, arrival, replica, chain)
        answer = self._place(sent)
        if isinstance(answer, Rejection):
            raise Shed(f"{self.scheduler.name} refused request {number}: {answer.reason}")
        if answer is not None:
            self._open[number] = sent
        return answer

    def first_token(self, number: int, /) -> None:
        """The pending prefill is given back."""
        sent = self._open[number]
        if (prediction := sent.replica.answered(sent)).expected_s:
            self.predictions.append(prediction)

    def finished(self, number: int, cached_tokens: int | None, /) -> None:
        """All that the request held is given back."""
        sent = self._open.pop(number)
        sent.replica.finished(sent, cached_tokens)

    def failed(self, number: int, failure: Failure, /) -> int | None:
        """The next attempt, as the gateway's rules allow."""
        sent = self._open[number]
        old, answer = sent.charge, None
        if sent.replica.failed(sent, _FAILURES[failure], begun=failure is Failure.CUT):
            answer = self._place(sent)
        if old is not None:
            sent.replica.view.release(old)  # after the next one is counted, as in the gateway
        if answer is None or isinstance(answer, Rejection):
            del self._open[number]
            return None
        return answer

    # Pods that come and go, and restarts of gateways.

    def joined(self, pod: int, /) -> None:
        """Discovery has the pod. One that failed was in its list all the time."""
        new = self._pods[pod]
        if new.id not in self._members:
            self._members[new.id] = new
            self._discovered(PodChange(come=(new,)))

    def left(self, pod: int, /) -> None:
        """Discovery has it no more."""
        gone = self._pods[pod].id
        del self._members[gone]
        self._discovered(PodChange(gone=(gone,)))

    def restart(self, which: int = 0) -> None:
        """Replace a replica by a new one, now. The old one finishes its requests and gets no more.

        With shared state the new one starts with the index and the numbers of the others, or of the old one if there
        is no other (its placements are in the store's log); otherwise it starts empty.
        """
        old = self.replicas[which]
        new = self._start()
        new.probed(self._answers())
        self.replicas[which] = new
        if not self._sharing.shared:
            return
        others = [each for each in self.replicas if each is not new] or [old]
        for page in others[0].prefix.pages():
            new.prefix.restore(page)
        for other in [*others, old]:
            new.view.set_remote(other.name, other.announced)

    def _start(self) -> Replica:
        self._started += 1
        name, world, sharing = f"replica-{self._started}", self._world, self._sharing
        view = LoadView(world.clock)
        if sharing.shared:
            view = LoadView(
                world.clock, lambda pod, numbers: self._announce(replica, pod, numbers), lambda: sharing.age_s
            )
        pods, kv_tokens = list(self._members.values()), world.engines[0].profile.kv_tokens
        rng, events = self._health_rng, sharing.kv_events
        replica = Replica(name, world.clock, pods, kv_tokens, rng, view, kv_events=events)
        return replica

    # Dispatch.

    def _place(self, sent: SentRequest) -> int | Rejection | None:
        """Hits, snapshot, pick, reserve, place: the pod, the policy's refusal, or None where no pod may be picked."""
        replica, chain = sent.replica, sent.chain
        replica.health.due(self._world.now)
        info = self._info(sent, replica)
        try:
            answer = self.scheduler.pick(info, replica.view.snapshot(POOL))
        except NoRoutablePod:
            return None
        if not isinstance(answer, Decision):
            return answer
        pod = answer.pod
        sent.charge = charge = replica.view.reserve(pod, info)
        if info.slo.tpot_s:
            replica.view.promise(charge, info)
        sent.attempts += 1
        sent.sent_at = self._world.now
        if chain:
            counts = replica.accuracy.pods[pod]
            counts.asked += info.prompt_tokens
            sent.known = min(info.prompt_tokens, info.prefix_hits.get(pod, 0) * PREFIX_BLOCK_TOKENS)
            counts.expected += sent.known
            replica.prefix.place(pod, chain)
            self._spread(replica, lambda other: other.prefix.place(pod, chain))
        return self._at[pod]

    def _info(self, sent: SentRequest, replica: Replica) -> RequestInfo:
        """What the policy is given; another attempt renews what may have changed."""
        entropy, hits = self._rng.getrandbits(64), replica.prefix.match(sent.chain)
        if sent.info is not None:
            return sent.info._replace(entropy=entropy, prefix_hits=hits, tried=sent.tried)
        arrival = sent.arrival
        sent.info = RequestInfo(
            id=str(sent.number),
            model=MODEL,
            prompt_tokens=arrival.prompt_tokens,
            max_tokens=0,
            arrived_at=self._world.now,
            entropy=entropy,
            sequence=next(replica.sequence),
            session_key=arrival.session,
            priority=arrival.priority,
            prefix_hits=hits,
            slo=arrival.slo,
        )
        return sent.info

    def _prompt(self, arrival: Arrival) -> bytes:
        """Bytes that share a prefix exactly where the units do."""
        repeats = self._unit_tokens * BYTES_PER_TOKEN // 8
        prompt = b"".join([unit.to_bytes(8, "little") * repeats for unit in arrival.units])
        return prompt[: arrival.prompt_tokens * BYTES_PER_TOKEN]

    # The network between replicas, and from pods to them.

    def _announce(self, replica: Replica, pod: PodId, numbers: InflightNumbers) -> None:
        replica.announced[pod] = numbers
        self._spread(replica, lambda other: other.view.set_remote(replica.name, {pod: numbers}))

    def _spread(self, origin: Replica, update: Callable[[Replica], None]) -> None:
        """Apply an update to the other replicas, `age_s` later."""
        if not self._sharing.shared or (len(self.replicas) == 1 and self.replicas[0] is origin):
            return

        def deliver() -> None:
            for other in self.replicas:
                if other is not origin:
                    update(other)

        if self._sharing.age_s:
            self._world.at(self._world.now + self._sharing.age_s, deliver)
        else:
            deliver()

    def _discovered(self, change: PodChange) -> None:
        for replica in self.replicas:
            replica.change_pods(change)

    def _probe(self) -> None:
        answers = self._answers()
        for replica in self.replicas:
            replica.probed(answers)

    def _answers(self) -> dict[PodId, bool]:
        """Which of discovery's pods answer a probe now."""
        return {pod: self._world.serves[self._at[pod]] for pod in self._members}

    def _report(self, at: int) -> None:
        pod = self._pods[at].id
        if not self._world.serves[at] or pod not in self._members:
            return
        engine = self._world.engine(at)
        report = EngineReport(
            engine.waiting,
            engine.running,
            engine.kv_usage,
            engine.profile.kv_tokens,
            engine.prefix_queries_tokens,
            engine.prefix_hits_tokens,
            self._world.started_at[at],
        )
        for replica in self.replicas:
            replica.read(pod, report)
