"""The hosts of a policy side by side: each gets the same requests, reports and ends at the same times and with the same
random bits, and says which pod it picked. Time and pods are those of the simulator, which is one of the hosts.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from itertools import count
from typing import Protocol

import msgspec

from loadtests.sim.engine.profiles import TINY
from loadtests.sim.simulate.replicas import MODEL, Replicas
from loadtests.sim.simulate.routing import Failure
from loadtests.sim.simulate.traces import Arrival, Trace
from loadtests.sim.simulate.world import World
from router.dataplane.exchange import Exchange
from router.policy_settings import PolicyGuard
from router.ray.arguments import RouterArguments
from router.ray.calls import CallMetadata, request_of
from router.ray.host import RayHost, ServeReplica
from router.settings import PolicySpec, Pool
from schedulers import registry
from schedulers.params import fingerprint
from schedulers.types import Pod, PodId
from statesync.types import EngineReport
from tests.fakes.ext_proc import (
    CHAT,
    OK,
    Conversation,
    PickerRig,
    destination,
    request_body,
    request_headers,
    response_body,
    response_headers,
)
from tests.fakes.memory_client_and_pods import LAST_CHUNK, SSE_HEAD, Client, PodEnd, event, post
from tests.fakes.memory_gateway import Rig

BEGIN_S = 5.0
"""The first arrival is after it: at 0 are the engines' first reports."""

SLOW_S = 3600.0
"""Seconds of a pick that count as a failure of its policy."""

UNIT_TOKENS = 64
RATE = 100.0
"""Requests a second."""

FIRST_EVENT = SSE_HEAD + event('{"choices":[{"text":"a"}]}')

Report = Callable[[PodId, EngineReport], None]


def prompt_of(arrival: Arrival) -> str:
    """Text that shares a prefix exactly where the units do."""
    return "".join([f"{unit:08x}" * (UNIT_TOKENS // 2) for unit in arrival.units])


def body_of(arrival: Arrival) -> bytes:
    """The request as a client sends it."""
    return msgspec.json.encode({"model": MODEL, "prompt": prompt_of(arrival), "stream": True})


def filled(rig: Rig, pods: int) -> str:
    """Give the pool its pods; returns the digest of what decides."""
    rig.pod_registry.on_pods("default", [Pod(PodId(f"pod-{at}"), f"10.0.0.{at + 1}:8000") for at in range(pods)])
    live = rig.policies.live("default")
    return fingerprint(live.record.name, live.scheduler)


class DecisionHost(Protocol):
    """One host."""

    digest: str
    """Of its policy, as it shows it."""

    def place(self, number: int, arrival: Arrival) -> str:
        """The pod that gets the request."""
        ...

    def first_token(self, number: int) -> None:
        """Its answer began."""

    def finished(self, number: int) -> None:
        """Its answer is complete."""

    def report(self, pod: PodId, report: EngineReport) -> None:
        """An engine's own numbers were read."""


class SimulatedHost(Replicas):
    """The simulator's own replica, with the prompts and random bits of the others."""

    def __init__(self, world: World, policy: PolicySpec, on_report: Report) -> None:
        scheduler = registry.create(policy.name, policy.params)
        self.digest = fingerprint(policy.name, scheduler)
        self._on_report, self._last = on_report, dict[PodId, EngineReport]()
        super().__init__(world, scheduler, UNIT_TOKENS, seed=1)
        self._rng = CountingBits()
        read = self.replicas[0].read

        def read_changed(pod: PodId, report: EngineReport) -> None:
            # Ray passes statistics on when they have changed.
            if self._last.get(pod) != report:
                self._last[pod] = report
                read(pod, report)
                self._on_report(pod, report)

        self.replicas[0].read = read_changed  # type: ignore[method-assign]

    def _prompt(self, arrival: Arrival) -> bytes:
        return msgspec.json.encode(prompt_of(arrival))


class CountingBits(random.Random):
    """Random bits that are the same for all hosts: 1, 2, 3 and so on."""

    def __init__(self) -> None:
        super().__init__(1)
        self._bits = count(1)

    def getrandbits(self, k: int, /) -> int:
        """The next number, where a policy's bits are drawn."""
        return next(self._bits) if k == 64 else super().getrandbits(k)


class GatewayHost:
    """The whole gateway over connections in memory: requests are sent to it as a client does, and answered as a pod
    does."""

    def __init__(self, rig: Rig, pods: int) -> None:
        self.rig = rig
        self.digest = filled(rig, pods)
        self._free: list[Client] = []
        self._open: dict[int, tuple[Client, PodEnd]] = {}

    def place(self, number: int, arrival: Arrival) -> str:
        """See DecisionHost."""
        rig = self.rig
        client = self._free.pop() if self._free else rig.client()
        headers = (f"x-request-id: {number}", f"x-session-id: {arrival.session}")
        client.sends(post(body_of(arrival), *headers, path="/v1/completions"))
        (pod,) = [end for end in rig.net.made if end.transport.sent]
        del pod.transport.sent[:]
        self._open[number] = client, pod
        (exchange,) = [each for each in rig.admission.active if each.request_id == b"%d" % number]
        assert exchange.placement is not None
        assert pod.address == exchange.placement.pod.address
        return exchange.placement.pod.id

    def first_token(self, number: int) -> None:
        """See DecisionHost."""
        pod = self._open[number][1]
        self.rig.wire.do(lambda: pod.transport.deliver(FIRST_EVENT))

    def finished(self, number: int) -> None:
        """See DecisionHost."""
        client, pod = self._open.pop(number)
        self.rig.wire.do(lambda: pod.transport.deliver(LAST_CHUNK))
        assert client.transport.sent.endswith(LAST_CHUNK)
        del client.transport.sent[:]
        self._free.append(client)

    def report(self, pod: PodId, report: EngineReport) -> None:
        """See DecisionHost."""
        self.rig.updates.on_report(pod, report, 0.0)


class PickerHost:
    """An endpoint picker: requests are sent to it as Envoy does, in messages of ext_proc."""

    def __init__(self, rig: Rig, pods: int) -> None:
        self.rig = rig
        self.digest = filled(rig, pods)
        self._picker = PickerRig(rig)
        self._open: dict[int, Conversation] = {}

    def place(self, number: int, arrival: Arrival) -> str:
        """See DecisionHost."""
        headers = {**CHAT, ":path": "/v1/completions", "x-session-id": arrival.session, "x-request-id": str(number)}
        talk = self._open[number] = self._picker.opens()
        talk.sends(request_headers(headers), request_body(body_of(arrival)))
        address = destination(talk.takes()[0])
        return f"pod-{int(address.partition(':')[0].rpartition('.')[2]) - 1}"

    def first_token(self, number: int) -> None:
        """See DecisionHost."""
        self._open[number].sends(response_headers(OK), response_body(b'data: {"choices":[{"text":"a"}]}\n\n'))

    def finished(self, number: int) -> None:
        """See DecisionHost."""
        self._open.pop(number).sends(response_body(b"", end=True)).closes()

    def report(self, pod: PodId, report: EngineReport) -> None:
        """See DecisionHost."""
        self.rig.updates.on_report(pod, report, 0.0)


class RayRouterHost:
    """What decides in Ray Serve's routers."""

    def __init__(self, policy: PolicySpec, pods: int, clock: Callable[[], float]) -> None:
        bits = count(1)
        arguments = RouterArguments(
            policy=policy.name, params=policy.params, settings={"policy_guard": {"slow_s": SLOW_S}}
        )
        self._host = RayHost(arguments, "default", clock=clock, rng=lambda: next(bits))
        self._replicas = {PodId(f"pod-{at}"): ServeReplica(PodId(f"pod-{at}")) for at in range(pods)}
        self._host.set_replicas([*self._replicas.values()])
        self.digest = self._host.status().digest
        self._open: dict[int, Exchange] = {}

    def place(self, number: int, arrival: Arrival) -> str:
        """See DecisionHost."""
        question = {"model": MODEL, "prompt": prompt_of(arrival)}
        call = request_of([question], CallMetadata(str(number), arrival.session, "", stream=True))
        exchange = self._open[number] = self._host.choose(call)
        assert exchange.placement is not None
        return exchange.placement.pod.id

    def first_token(self, number: int) -> None:
        """See DecisionHost."""
        self._host.first_token(self._open[number], stream=True)

    def finished(self, number: int) -> None:
        """See DecisionHost."""
        self._host.ended(self._open.pop(number), 200)

    def report(self, pod: PodId, report: EngineReport) -> None:
        """See DecisionHost."""
        self._replicas[pod] = self._replicas[pod]._replace(report=report)
        self._host.set_replicas([*self._replicas.values()])


class Lockstep:
    """The simulated world's router: asks every host about each request, and goes by the simulator."""

    def __init__(
        self, world: World, policy: PolicySpec, hosts: Mapping[str, DecisionHost], set_time: Callable[[], None]
    ) -> None:
        self.simulator = SimulatedHost(world, policy, self._report)
        self.hosts = hosts
        self.decided = 0
        self.picked: set[str] = set()
        self.deaf = ""
        """A host that gets no first tokens."""
        self.differing: list[tuple[int, dict[str, str]]] = []
        """Requests for which hosts picked different pods."""
        self._set_time = set_time

    def route(self, number: int, arrival: Arrival, /) -> int | None:
        """Every host's pick; the simulator's is followed."""
        self._set_time()
        at = self.simulator.route(number, arrival)
        picks = {name: host.place(number, arrival) for name, host in self.hosts.items()}
        picks["simulator"] = f"pod-{at}"
        self.decided += 1
        self.picked.update(picks.values())
        if len(set(picks.values())) > 1:
            self.differing.append((number, picks))
        return at

    def first_token(self, number: int, /) -> None:
        """Every host gets it."""
        self._set_time()
        self.simulator.first_token(number)
        for name, host in self.hosts.items():
            if name != self.deaf:
                host.first_token(number)

    def finished(self, number: int, cached_tokens: int | None, /) -> None:
        """Every host gets it."""
        self._set_time()
        self.simulator.finished(number, None)
        for host in self.hosts.values():
            host.finished(number)

    def failed(self, number: int, failure: Failure, /) -> int | None:
        """No pod fails here."""
        raise AssertionError(f"request {number} failed: {failure}")

    def joined(self, pod: int, /) -> None:
        """No pod joins here."""

    def left(self, pod: int, /) -> None:
        """No pod leaves here."""

    def _report(self, pod: PodId, report: EngineReport) -> None:
        self._set_time()
        for host in self.hosts.values():
            host.report(pod, report)


def arrivals(requests: int, seed: int, rate: float) -> Trace:
    """Conversations over a few system prompts, and single questions, at `rate` requests a second."""
    rng = random.Random(seed)
    talks: list[tuple[str, list[int]]] = []
    units = count(1)
    systems = [[next(units) for _ in range(rng.randrange(1, 6))] for _ in range(5)]
    made, now = list[Arrival](), BEGIN_S
    for _ in range(requests):
        now += rng.expovariate(rate)
        if talks and rng.random() < 0.75:
            session, said = talks.pop(rng.randrange(len(talks)))
        else:
            session, said = f"s{len(made)}", [*rng.choice(systems)]
        said = [*said, *[next(units) for _ in range(rng.randrange(1, 4))]]
        if len(said) < 24 and len(talks) < 60:
            talks.append((session, said))
        made.append(Arrival(now, len(said) * UNIT_TOKENS, rng.randrange(1, 40), said, session))
    return Trace("lockstep", UNIT_TOKENS, made)


def play(policy: PolicySpec, requests: int, *, pods: int = 6, seed: int = 1, deaf: str = "") -> Lockstep:
    """All hosts on a trace of so many requests; a snapshot is taken for each."""
    world = World([TINY] * pods, UNIT_TOKENS, cached_in_usage=False)
    pool = Pool(name="default", models=[MODEL], policy=policy)
    # Time is virtual but for what a pick takes: no busy machine takes a policy out.
    guard = PolicyGuard(slow_s=SLOW_S)
    with Rig(pool, pods=0, policy_guard=guard) as rig, Rig(pool, pods=0, policy_guard=guard) as pickers:

        def set_time() -> None:
            rig.wire.clock.now = pickers.wire.clock.now = world.now

        set_time()
        hosts: dict[str, DecisionHost] = {
            "gateway": GatewayHost(rig, pods),
            "epp": PickerHost(pickers, pods),
            "ray": RayRouterHost(policy, pods, world.clock),
        }
        lockstep = Lockstep(world, policy, hosts, set_time)
        lockstep.deaf = deaf
        world.play(arrivals(requests, seed, RATE), lockstep)
    return lockstep
