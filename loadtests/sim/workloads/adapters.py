"""Many fine-tuned variants of a model: each request is for one adapter, whose instructions its prompts begin with.

After Sheng et al., "S-LoRA" (arXiv 2311.03285): 200 adapters with power-law popularity and Gamma arrivals.
An adapter's KV cache is its own even where the text is the same, so adapters share no prefix. Loading adapters
costs the simulated engines nothing.
"""

from __future__ import annotations

from itertools import islice
from random import Random

import msgspec

from loadtests.sim.simulate.traces import Arrival, Trace
from loadtests.sim.workloads.drawing import (
    UNIT_TOKENS,
    Count,
    Positive,
    Zipf,
    chained,
    exponential,
    gamma_times,
    in_order,
    lognormal,
)


class Adapters(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The shape."""

    requests: Count = 4_000
    rate: Positive = 80.0
    """Requests a second."""
    cv: Positive = 1.0
    adapters: Count = 200
    exponent: Positive = 1.0
    instruction_tokens: Count = 3_000
    """Mean: instructions, tools and examples of an adapter."""
    question_tokens: Count = 700
    answer_tokens: Count = 250


def adapters(shape: Adapters, seed: int) -> Trace:
    """The trace of that shape."""
    rng = Random(seed)
    popular = Zipf(shape.adapters, shape.exponent)
    lengths = [lognormal(rng, shape.instruction_tokens, 0.8, UNIT_TOKENS, 16_000) for _ in range(shape.adapters)]
    instructions = [chained(0, adapter, tokens) for adapter, tokens in enumerate(lengths)]
    arrivals = []
    for moment in islice(gamma_times(rng, shape.rate, shape.cv), shape.requests):
        units = instructions[popular.draw(rng)]
        prompt = len(units) * UNIT_TOKENS + lognormal(rng, shape.question_tokens, 0.8, 8, 8_000)
        arrivals.append(Arrival(moment, prompt, exponential(rng, shape.answer_tokens), tuple(units)))
    return in_order("adapters", arrivals)
