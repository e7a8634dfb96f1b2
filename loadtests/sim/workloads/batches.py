"""Batches beside chat: at a few moments thousands of requests of low priority come at once, while people chat.

After Sun et al., "HyGen" (arXiv 2501.14808), and the batch interfaces of hosted models: the batch is one task, so its
requests share their instructions, and it has a priority below the chat's.
"""

from __future__ import annotations

from itertools import islice
from random import Random
from typing import Final

import msgspec

from loadtests.sim.simulate.traces import Arrival, Trace
from loadtests.sim.workloads.bursts import Bursts, bursts
from loadtests.sim.workloads.drawing import (
    UNIT_TOKENS,
    Count,
    Positive,
    chained,
    exponential,
    gamma_times,
    in_order,
    lognormal,
)

LOW: Final = -1
"""Priority of a batch's requests; chat has 0."""


class Batches(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The shape."""

    chats: Count = 3_000
    """Requests."""
    chat_rate: Positive = 20.0
    """Requests a second."""
    batches: Count = 2
    """Spread evenly over the time of the chat."""
    batch: Count = 1_000
    """Requests of each."""
    batch_rate: Positive = 500.0
    """At which a batch's requests come in, a second."""
    instruction_tokens: Count = 1_024
    item_tokens: Count = 1_200
    answer_tokens: Count = 120


def batches(shape: Batches, seed: int) -> Trace:
    """The trace of that shape."""
    chat = bursts(Bursts(requests=shape.chats, rate=shape.chat_rate, cv=1.0), seed)
    arrivals = list(chat.arrivals)
    length = arrivals[-1].at_s
    for number in range(shape.batches):
        arrivals += _batch(shape, number, length * (2 * number + 1) / (2 * shape.batches), Random(f"{seed} {number}"))
    return in_order("batches", arrivals)


def _batch(shape: Batches, number: int, starts_s: float, rng: Random) -> list[Arrival]:
    units = tuple(chained(1, number, shape.instruction_tokens))
    found = []
    for moment in islice(gamma_times(rng, shape.batch_rate, 1.0), shape.batch):
        prompt = len(units) * UNIT_TOKENS + lognormal(rng, shape.item_tokens, 0.6, 16, 16_000)
        answer = exponential(rng, shape.answer_tokens)
        found.append(Arrival(starts_s + moment, prompt, answer, units, "", LOW))
    return found
