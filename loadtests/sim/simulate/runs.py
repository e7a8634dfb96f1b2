"""One policy on one trace: sets up the world, plays the trace, and keeps the results. Prints nothing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from loadtests.sim.engine.model import Engine
from loadtests.sim.engine.profiles import H100_8B, EngineProfile
from loadtests.sim.simulate.contenders import contender, title
from loadtests.sim.simulate.replicas import Replicas, Sharing
from loadtests.sim.simulate.traces import Trace, TraceError
from loadtests.sim.simulate.world import Outcome, World

SAMPLES: Final = 240
"""Samples of the pods' load over the length of the trace."""

ONE: Final = Sharing()


class Case(NamedTuple):
    """Everything but trace and policy."""

    pods: int = 8
    rate: float = 1.0
    """Factor on the trace's request rate."""
    profile: EngineProfile = H100_8B
    sharing: Sharing = ONE
    restart_at_s: float | None = None
    """When the first replica is replaced by a new one; peers are never restarted."""
    seed: int = 0
    cached_in_usage: bool = True
    """Whether answers report the cached tokens of their prompts. If not, gateways know only what the metrics pages
    count."""


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


def with_kv_tokens(profile: EngineProfile, tokens: int) -> EngineProfile:
    """The profile with a KV cache of about `tokens` tokens."""
    return profile._replace(kv_blocks=max(1, tokens // profile.block_tokens))


def simulate(trace: Trace, policy: str, case: Case, progress: Callable[[int], None] | None = None) -> Run:
    """Play the trace. Raises UnknownPolicy, InvalidParams; TraceError where its unit is no multiple of a KV block.

    `progress` is called with the number of requests that have arrived.
    """
    join = contender(policy)
    rated = trace.rated(case.rate)
    world = new_world(case, trace.unit_tokens)
    router = join(world, trace.unit_tokens, case.sharing, case.seed)
    if case.restart_at_s is not None and isinstance(router, Replicas):
        world.at(case.restart_at_s, router.restart)
    samples = watch(world, rated.arrivals[-1].at_s / SAMPLES if rated.arrivals else 0.0)
    outcomes = world.play(rated, router, progress)
    ends = [each.at_s + each.e2e_s for each in outcomes]
    return Run(title(policy), outcomes, world.rejected, samples, max(ends, default=0.0))


def new_world(case: Case, unit_tokens: int) -> World:
    """Engines for a trace of that unit. Raises TraceError where it is no multiple of the profile's KV block."""
    block = case.profile.block_tokens
    if unit_tokens % block:
        raise TraceError(f"the trace's blocks of {unit_tokens} tokens are no multiple of {block}, the engine's")
    return World(case.profile, case.pods, unit_tokens, cached_in_usage=case.cached_in_usage)


def watch(world: World, interval_s: float) -> Sequence[Sample]:
    """A list that grows by a sample in every interval until the last event."""
    samples: list[Sample] = []

    def look() -> None:
        samples.append(Sample(world.now, [_requests(engine) for engine in world.engines]))

    world.every(max(interval_s, 0.1), 0.0, look)
    return samples


def _requests(engine: Engine) -> int:
    return engine.waiting + engine.running
