"""Makers shared by the tests of the simulator and of the peers: a small engine, arrivals, prompts."""

from __future__ import annotations

from loadtests.sim.engine.profiles import EngineProfile
from loadtests.sim.simulate.traces import Arrival, Trace
from loadtests.sim.simulate.world import Failure, World

UNIT = 64

SMALL = EngineProfile(
    name="small",
    kv_blocks=1000,
    block_tokens=16,
    max_num_seqs=8,
    max_batched_tokens=512,
    max_model_len=20_000,
    step_s=0.01,
    sequence_s=0.0,
    kv_token_s=0.0,
    prefill_token_s=0.001,
    attention_s=0.0,
)
"""A thousand prompt tokens a second, a hundred answer tokens a second a request."""


def arrival(at_s: float, prompt: int = 640, output: int = 10) -> Arrival:
    """An arrival with a new prompt."""
    return Arrival(at_s, prompt, output)


def prompt(*units: int, at_s: float = 0.0, output: int = 10) -> Arrival:
    """A prompt of these units and one more token, so that all units can be found in the cache."""
    return Arrival(at_s, len(units) * UNIT + 1, output, units)


def chain(name: int, length: int) -> tuple[int, ...]:
    """Units that belong to one prompt only."""
    return tuple(range(name * 1000, name * 1000 + length))


def trace(*arrivals: Arrival) -> Trace:
    return Trace("t", UNIT, arrivals)


def world(pods: int = 2, profile: EngineProfile = SMALL) -> World:
    return World([profile] * pods, UNIT)


class ToOnePod:
    """A router that sends every request to one pod, and after a failure to `then`, if that is a pod."""

    def __init__(self, pod: int, then: int | None = None) -> None:
        self.pod, self.then = pod, then
        self.calls: list[str] = []
        """What it was called with, in order."""

    def route(self, number: int, arrival: Arrival, /) -> int | None:
        self.calls.append(f"route {number}")
        return self.pod

    def first_token(self, number: int, /) -> None:
        self.calls.append(f"first {number}")

    def finished(self, number: int, cached_tokens: int | None, /) -> None:
        self.calls.append(f"end {number} cached {cached_tokens}")

    def failed(self, number: int, failure: Failure, /) -> int | None:
        self.calls.append(f"{failure.value} {number}")
        return self.then if failure is not Failure.CUT else None

    def joined(self, pod: int, /) -> None:
        self.calls.append(f"pod {pod} joined")

    def left(self, pod: int, /) -> None:
        self.calls.append(f"pod {pod} left")
