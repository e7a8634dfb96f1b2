"""Chat that comes in bursts: gaps with a coefficient of variation well above 1, and conversations of a few turns.

Gamma gaps after Wang et al., "BurstGPT" (arXiv 2401.17644), and Xiang et al., "ServeGen" (arXiv 2505.09999), which find
Gamma and Weibull gaps nearer to production than Poisson arrivals; lengths after ServeGen: prompts lognormal with a
Pareto tail, answers exponential.
"""

from __future__ import annotations

from heapq import heappop, heappush
from itertools import islice
from random import Random
from typing import Final

import msgspec

from loadtests.sim.simulate.traces import Arrival, Trace
from loadtests.sim.workloads.drawing import (
    UNIT_TOKENS,
    Count,
    Positive,
    chained,
    exponential,
    fresh,
    gamma_times,
    in_order,
    lognormal,
)

TAIL: Final = 0.05
"""Share of the messages from the Pareto tail: pasted files."""
TAIL_ALPHA: Final = 1.2
LONGEST: Final = 60_000
"""Tokens of a prompt; a conversation that has reached it ends."""


class Bursts(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The shape."""

    requests: Count = 5_000
    rate: Positive = 40.0
    """Requests a second, in the mean."""
    cv: Positive = 4.0
    """Of the gaps; 1 is Poisson."""
    turns: Count = 4
    """Of a conversation, in the mean."""
    pause_s: Positive = 45.0
    """Between two turns, in the mean."""
    system_tokens: Count = 1_024
    message_tokens: Count = 700
    answer_tokens: Count = 250


class _Talk:
    """A conversation under way."""

    def __init__(self, name: str, units: list[int]) -> None:
        self.name = name
        self.units = units
        self.tokens = len(units) * UNIT_TOKENS

    def say(self, rng: Random, tokens: int) -> None:
        """Append a message or an answer."""
        self.tokens += tokens
        self.units += fresh(rng, (self.tokens // UNIT_TOKENS - len(self.units)) * UNIT_TOKENS)


def bursts(shape: Bursts, seed: int) -> Trace:
    """The trace of that shape: each moment goes to a conversation that is ready for its next turn, or to a new one."""
    rng = Random(seed)
    system = chained(0, 0, shape.system_tokens)
    waiting: list[tuple[float, int, _Talk]] = []
    """A heap, by the moment from which each is ready."""
    arrivals = []
    for number, moment in enumerate(islice(gamma_times(rng, shape.rate, shape.cv), shape.requests)):
        ready = waiting[0][0] <= moment if waiting else False
        goes_on = ready and rng.random() > 1 / shape.turns
        talk = heappop(waiting)[-1] if goes_on else _Talk(f"chat-{number}", list(system))
        talk.say(rng, _message(rng, shape))
        answer = exponential(rng, shape.answer_tokens)
        arrivals.append(Arrival(moment, talk.tokens, answer, tuple(talk.units), talk.name))
        talk.say(rng, answer)
        ready_at = moment + rng.expovariate(1 / shape.pause_s)
        if talk.tokens < LONGEST:
            heappush(waiting, (ready_at, number, talk))
    return in_order("bursts", arrivals)


def _message(rng: Random, shape: Bursts) -> int:
    if rng.random() < TAIL:
        return min(round(4 * shape.message_tokens * rng.paretovariate(TAIL_ALPHA)), LONGEST)
    return lognormal(rng, shape.message_tokens, 1.0, 8, 16_000)
