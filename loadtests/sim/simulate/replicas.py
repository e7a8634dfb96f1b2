"""Simulated gateway replicas: the real policy, `LoadView` and `PrefixIndex`; only clock and network are replaced.

What one replica tells the others arrives `age_s` later, as through a shared store whose view is that old. Dice decide
which replica gets a request, as a load balancer in front would.
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
from statesync.load.view import LoadView
from statesync.prefix.index import PrefixIndex
from statesync.types import Charge, EngineReport, InflightNumbers

POOL: Final = "default"
MODEL: Final = "model"

REPORT_S: Final = 1.0
"""How often an engine's own numbers are read: the gateway's `scrape.interval_s`."""

INDEX_BYTES: Final = 2**40
"""The simulated index is bounded by the pods' KV only."""


class Sharing(NamedTuple):
    """How many replicas there are and what they know of each other."""

    replicas: int = 1
    age_s: float = 0.0
    """How old the others' part of a replica's view is."""
    shared: bool = True
    """Whether they tell each other anything, and one that starts anew is told what it missed."""


class Rejected(RuntimeError):
    """The policy refused a request; no built-in one does unless it is configured to shed."""


class Replica:
    """One gateway's own state."""

    def __init__(self, name: str, world: World, pods: Sequence[Pod], sharing: Sharing, tell: Tell) -> None:
        self.name = name
        self.told: dict[PodId, InflightNumbers] = {}
        """What it last told of itself: what a store keeps for whoever starts."""
        if sharing.shared:
            self.view = LoadView(world.clock, lambda pod, numbers: tell(self, pod, numbers), lambda: sharing.age_s)
        else:
            self.view = LoadView(world.clock)
        self.view.set_pods(POOL, pods)
        self.prefix = PrefixIndex(INDEX_BYTES, world.engines[0].profile.kv_tokens)
        self.sequence = count()


Tell = Callable[[Replica, PodId, InflightNumbers], None]


class _Request(NamedTuple):
    replica: Replica
    charge: Charge
    arrived: float


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
        self._open[number] = _Request(replica, replica.view.reserve(pod, info), self._world.now)
        if chain:
            replica.prefix.place(pod, chain)
            self._spread(replica, lambda other: other.prefix.place(pod, chain))
        return self._at[pod]

    def first_token(self, number: int, cached_tokens: int, /) -> None:
        """The pending prefill is given back."""
        replica, charge, arrived = self._open[number]
        replica.view.prefill_done(charge)
        replica.view.observe_ttft(charge.pod, self._world.now - arrived)

    def finished(self, number: int, /) -> None:
        """All that the request held is given back."""
        replica, charge, _ = self._open.pop(number)
        replica.view.release(charge)

    # What happens to replicas.

    def restart(self, which: int = 0) -> None:
        """Replace a replica by a new one, now. The old one ends the requests it has, and gets no more.

        Where state is shared, the new one starts with the index and the numbers of the others (of the old one, where
        there is no other: its placements are in the store's log); else it knows nothing.
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
            new.view.set_remote(other.name, other.told)

    def _start(self) -> Replica:
        self._started += 1
        return Replica(f"replica-{self._started}", self._world, self._pods, self._sharing, self._tell)

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
            prefix_hits=replica.prefix.match(chain),
        )

    def _prompt(self, arrival: Arrival) -> bytes:
        """Bytes that share a prefix exactly where the units do."""
        words = self._unit_tokens * BYTES_PER_TOKEN // 8
        prompt = b"".join([unit.to_bytes(8, "little") * words for unit in arrival.units])
        return prompt[: arrival.prompt_tokens * BYTES_PER_TOKEN]

    def _tell(self, replica: Replica, pod: PodId, numbers: InflightNumbers) -> None:
        replica.told[pod] = numbers
        self._spread(replica, lambda other: other.view.set_remote(replica.name, {pod: numbers}))

    def _spread(self, origin: Replica, news: Callable[[Replica], None]) -> None:
        """Deliver to the others, once the time it takes has passed."""
        if not self._sharing.shared or (len(self.replicas) == 1 and self.replicas[0] is origin):
            return

        def deliver() -> None:
            for other in self.replicas:
                if other is not origin:
                    news(other)

        if self._sharing.age_s:
            self._world.at(self._world.now + self._sharing.age_s, deliver)
        else:
            deliver()

    def _report(self, pod: PodId, engine: Engine) -> None:
        report = EngineReport(engine.waiting, engine.running, engine.kv_usage, engine.profile.kv_tokens)
        for replica in self.replicas:
            replica.view.report(pod, report)
