"""Simulated gateway replicas: the real policy, `LoadView`, `PrefixIndex` and `PrefixAccuracy`. Only clock and network
are replaced.

An update of one replica reaches the others `age_s` later, as through a shared store whose view is that old. Each
request goes to a random replica, as behind a load balancer.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from functools import partial
from itertools import count
from typing import Final, NamedTuple

from loadtests.sim.engine.model import Engine
from loadtests.sim.simulate.traces import Arrival
from loadtests.sim.simulate.world import World
from schedulers.protocols import Scheduler
from schedulers.types import BYTES_PER_TOKEN, Decision, Pod, PodId, RequestInfo
from statesync.load.pod_state import Charge
from statesync.load.view import LoadView
from statesync.prefix.accuracy import PrefixAccuracy
from statesync.prefix.index import PrefixIndex
from statesync.types import EngineReport, InflightNumbers

POOL: Final = "default"
MODEL: Final = "model"

REPORT_S: Final = 1.0
"""How often an engine's own numbers are read: the gateway's `scrape.interval_s`."""

INDEX_BYTES: Final = 2**40
"""The simulated index is bounded by the pods' KV only."""


class Sharing(NamedTuple):
    """The number of replicas, and how they share state."""

    replicas: int = 1
    age_s: float = 0.0
    """Age of the others' part of a replica's view."""
    shared: bool = True
    """Whether replicas share updates, and a restarted one gets the state it missed."""


class Rejected(RuntimeError):
    """The policy refused a request; no built-in one does unless it is configured to shed."""


class Replica:
    """One gateway's own state."""

    def __init__(self, name: str, world: World, pods: Sequence[Pod], sharing: Sharing, announce: Announce) -> None:
        self.name = name
        self.announced: dict[PodId, InflightNumbers] = {}
        """Its latest own numbers, which a store keeps for replicas that start later."""
        if sharing.shared:
            self.view = LoadView(world.clock, lambda pod, numbers: announce(self, pod, numbers), lambda: sharing.age_s)
        else:
            self.view = LoadView(world.clock)
        self.view.set_pods(POOL, pods)
        self.prefix = PrefixIndex(INDEX_BYTES, world.engines[0].profile.kv_tokens)
        self.accuracy = PrefixAccuracy(self.prefix.set_trust)
        """Corrects the index by what engines report as cached; each replica by its own requests, as in the gateway."""
        self.sequence = count()


Announce = Callable[[Replica, PodId, InflightNumbers], None]


class _Request(NamedTuple):
    replica: Replica
    charge: Charge
    arrived: float
    chain: Sequence[int]


class Replicas:
    """A `Router` made of R replicas that run one policy."""

    def __init__(
        self, world: World, scheduler: Scheduler, unit_tokens: int, sharing: Sharing | None = None, *, seed: int = 0
    ) -> None:
        self._world = world
        self._rng = random.Random(seed)
        self._sharing = sharing or Sharing()
        self._unit_tokens = unit_tokens
        self.scheduler = scheduler
        """Decides for all of them."""
        self._pods = [Pod(PodId(f"pod-{at}"), f"127.0.0.1:{at}") for at in range(len(world.engines))]
        self._at = {pod.id: at for at, pod in enumerate(self._pods)}
        self._started = 0
        self.replicas = [self._start() for _ in range(self._sharing.replicas)]
        self._open: dict[int, _Request] = {}
        for pod, engine in zip(self._pods, world.engines, strict=True):
            world.every(REPORT_S, self._rng.random() * REPORT_S, partial(self._report, pod.id, engine))

    # The stages of a request, as the data plane takes them.

    def route(self, number: int, arrival: Arrival, /) -> int:
        """Hits, snapshot, pick, reserve, place. Raises Rejected."""
        replica = self.replicas[self._rng.randrange(len(self.replicas))]
        chain = replica.prefix.chain(MODEL, [self._prompt(arrival)]) if arrival.units else []
        info = self._info(number, arrival, replica, chain)
        answer = self.scheduler.pick(info, replica.view.snapshot(POOL))
        if not isinstance(answer, Decision):
            raise Rejected(f"{self.scheduler.name} refused request {number}: {answer.reason}")
        pod = answer.pod
        charge = replica.view.reserve(pod, info)
        self._open[number] = _Request(replica, charge, self._world.now, chain)
        if chain:
            counts = replica.accuracy.pods[pod]
            counts.asked += info.prompt_tokens
            counts.expected += charge.cached
            replica.prefix.place(pod, chain)
            self._spread(replica, lambda other: other.prefix.place(pod, chain))
        return self._at[pod]

    def first_token(self, number: int, /) -> None:
        """The pending prefill is given back."""
        replica, charge, arrived, _ = self._open[number]
        replica.view.prefill_done(charge)
        replica.view.observe_ttft(charge.pod, self._world.now - arrived)

    def finished(self, number: int, cached_tokens: int | None, /) -> None:
        """All that the request held is given back. A prediction is compared with the answer's usage."""
        replica, charge, _, chain = self._open.pop(number)
        replica.view.release(charge)
        if chain and cached_tokens is not None:
            replica.accuracy.judge(charge.pod, charge.cached, cached_tokens)

    # Restarts and reports.

    def restart(self, which: int = 0) -> None:
        """Replace a replica by a new one, now. The old one finishes its requests and gets no more.

        With shared state the new one starts with the index and the numbers of the others, or of the old one if there
        is no other (its placements are in the store's log); otherwise it starts empty.
        """
        old = self.replicas[which]
        new = self._start()
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
        return Replica(f"replica-{self._started}", self._world, self._pods, self._sharing, self._announce)

    def _info(self, number: int, arrival: Arrival, replica: Replica, chain: Sequence[int]) -> RequestInfo:
        return RequestInfo(
            id=str(number),
            model=MODEL,
            prompt_tokens=arrival.prompt_tokens,
            max_tokens=0,
            arrived_at=self._world.now,
            entropy=self._rng.getrandbits(64),
            sequence=next(replica.sequence),
            session_key=arrival.session,
            priority=arrival.priority,
            prefix_hits=replica.prefix.match(chain),
        )

    def _prompt(self, arrival: Arrival) -> bytes:
        """Bytes that share a prefix exactly where the units do."""
        repeats = self._unit_tokens * BYTES_PER_TOKEN // 8
        prompt = b"".join([unit.to_bytes(8, "little") * repeats for unit in arrival.units])
        return prompt[: arrival.prompt_tokens * BYTES_PER_TOKEN]

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

    def _report(self, pod: PodId, engine: Engine) -> None:
        report = EngineReport(
            engine.waiting,
            engine.running,
            engine.kv_usage,
            engine.profile.kv_tokens,
            engine.prefix_queries_tokens,
            engine.prefix_hits_tokens,
        )
        for replica in self.replicas:
            replica.view.report(pod, report)
            replica.prefix.set_capacity(pod, engine.profile.kv_tokens)
            replica.accuracy.on_report(pod, report)
