"""One policy on one trace: sets up the world, plays the trace, and keeps the results. Prints nothing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from loadtests.sim.engine.model import Engine
from loadtests.sim.engine.profiles import H100_8B, EngineProfile
from loadtests.sim.simulate.contenders import contender, pair_contender, title
from loadtests.sim.simulate.events import PodEvent, pods_with, schedule
from loadtests.sim.simulate.pairs import PairWorld
from loadtests.sim.simulate.replica import Prediction
from loadtests.sim.simulate.replicas import Replicas, Sharing
from loadtests.sim.simulate.sessions import converse, sessions_of
from loadtests.sim.simulate.traces import Arrival, Trace, TraceError
from loadtests.sim.simulate.world import Outcome, World
from schedulers.params import fingerprint

SAMPLES: Final = 240
"""Samples of the pods' load over the length of the trace."""

ONE: Final = Sharing()


class Case(NamedTuple):
    """Everything but trace and policy."""

    pods: int = 8
    """At the beginning."""
    rate: float = 1.0
    """Factor on the trace's request rate."""
    profile: EngineProfile = H100_8B
    """Of all pods, if `profiles` is empty; and of pods that join."""
    sharing: Sharing = ONE
    restart_at_s: float | None = None
    """When the first replica is replaced by a new one; peers are never restarted."""
    seed: int = 0
    cached_in_usage: bool = True
    """Whether answers report the cached tokens of their prompts. If not, gateways know only what the metrics pages
    count."""
    profiles: Sequence[EngineProfile] = ()
    """Of each of the `pods`, where they differ."""
    events: Sequence[PodEvent] = ()
    """What happens to pods, after `rate`."""
    closed_loop: bool = False
    """Whether a session's next request waits for its last answer and a think time. Then `rate` is that of sessions."""
    prefill_pods: int = 0
    """Pods, the first ones, that only compute prompts for the others; 0: every pod serves whole requests."""

    def fleet(self) -> Sequence[EngineProfile]:
        """The profile of every pod, those that join at the end. Raises EventError."""
        start = self.profiles or [self.profile] * self.pods
        return [*start, *[self.profile] * (pods_with(self.events, self.pods) - self.pods)]


class Sample(NamedTuple):
    """The pods' load at one moment."""

    at_s: float
    requests: Sequence[int]
    """Queued and running, by pod."""


class Run(NamedTuple):
    """The results."""

    policy: str
    outcomes: Sequence[Outcome]
    """In order of arrival; requests that no pod can hold have none."""
    rejected: int
    samples: Sequence[Sample]
    duration_s: float
    """Virtual seconds until the last request ended."""
    lost: int = 0
    """Requests whose pod failed and whose client got an error; they have no outcome."""
    retried: int = 0
    """Attempts at another pod."""
    shed: int = 0
    """Requests that the policy refused."""
    unserved: Sequence[Arrival] = ()
    """Those that were lost or shed."""
    predictions: Sequence[Prediction] = ()
    """Of times to first token, by the gateways' cost model; none by peers."""
    digest: str = ""
    """Of the policy and its parameters (`schedulers.params.fingerprint`); empty for peers."""


def with_kv_tokens(profile: EngineProfile, tokens: int) -> EngineProfile:
    """The profile with a KV cache of about `tokens` tokens."""
    return profile._replace(kv_blocks=max(1, tokens // profile.block_tokens))


def simulate(trace: Trace, policy: str, case: Case, progress: Callable[[int], None] | None = None) -> Run:
    """Play the trace. Raises UnknownPolicy, InvalidParams, EventError; TraceError where its unit is no multiple of a KV
    block, or a closed loop has no sessions.

    `progress` is called with the number of requests that have arrived.
    """
    join = pair_contender(policy, case.prefill_pods) if case.prefill_pods else contender(policy)
    rated = trace.rated(case.rate)
    sessions = sessions_of(trace, case.rate) if case.closed_loop else []
    world = new_world(case, trace.unit_tokens)
    router = join(world, trace.unit_tokens, case.sharing, case.seed)
    if case.restart_at_s is not None and isinstance(router, Replicas):
        world.at(case.restart_at_s, router.restart)
    schedule(world, router, case.events)
    samples = watch(world, rated.arrivals[-1].at_s / SAMPLES if rated.arrivals else 0.0)
    if case.closed_loop:
        outcomes = sorted(converse(world, sessions, router, progress), key=_arrival_time)
    else:
        outcomes = world.play(rated, router, progress)
    ends = [each.at_s + each.e2e_s for each in outcomes]
    duration_s = max(ends, default=0.0)
    counts = world.lost, world.retried, world.shed
    predictions: Sequence[Prediction] = ()
    digest = ""
    if isinstance(router, Replicas):
        predictions, digest = router.predictions, fingerprint(router.scheduler.name, router.scheduler)
    return Run(
        title(policy), outcomes, world.rejected, samples, duration_s, *counts, world.unserved, predictions, digest
    )


def new_world(case: Case, unit_tokens: int) -> World:
    """Engines for a trace of that unit. Raises EventError; TraceError where it is no multiple of every KV block."""
    fleet = case.fleet()
    for profile in fleet:
        if unit_tokens % profile.block_tokens:
            block = profile.block_tokens
            raise TraceError(f"the trace's blocks of {unit_tokens} tokens are no multiple of {block}, the engine's")
    make = PairWorld if case.prefill_pods else World
    return make(fleet, unit_tokens, later=len(fleet) - case.pods, cached_in_usage=case.cached_in_usage)


def watch(world: World, interval_s: float) -> Sequence[Sample]:
    """A list that grows by a sample in every interval until the last event."""
    samples: list[Sample] = []

    def look() -> None:
        serving = [engine for engine, serves in zip(world.engines, world.serves, strict=True) if serves]
        samples.append(Sample(world.now, [_requests(engine) for engine in serving] or [0]))

    world.every(max(interval_s, 0.1), 0.0, look)
    return samples


def _arrival_time(outcome: Outcome) -> float:
    return outcome.at_s


def _requests(engine: Engine) -> int:
    return engine.waiting + engine.running
