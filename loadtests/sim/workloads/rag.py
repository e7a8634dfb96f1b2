"""Retrieval-augmented generation: passages of popular documents at the front of each prompt, then a question.

After Jin et al., "RAGCache" (arXiv 2404.12457): two passages a question, of 3,718 tokens each in the mean (Wikipedia),
and the most popular 3 % of documents in 60 % of the requests, which is Zipf's law with an exponent of about 0.95.
Questions about one subject find the same passages in different orders, and a prefix counts only in its order.
"""

from __future__ import annotations

from itertools import islice
from random import Random
from typing import Final

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

NEIGHBOURS: Final = Zipf(8, 1.0)
"""The second passage is one of the documents near the first, the nearest most often."""
SWAPPED: Final = 0.3
"""Share of the requests in which the nearest two come in the other order."""


class Rag(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The shape."""

    requests: Count = 4_000
    rate: Positive = 20.0
    """Requests a second."""
    documents: Count = 10_000
    exponent: Positive = 0.95
    passage_tokens: Count = 3_718
    """Mean."""
    system_tokens: Count = 512
    question_tokens: Count = 200
    answer_tokens: Count = 150


def rag(shape: Rag, seed: int) -> Trace:
    """The trace of that shape."""
    rng = Random(seed)
    popular = Zipf(shape.documents, shape.exponent)
    lengths = [_whole(lognormal(rng, shape.passage_tokens, 0.6, UNIT_TOKENS, 16_000)) for _ in range(shape.documents)]
    system = chained(0, -1, shape.system_tokens)
    arrivals = []
    for moment in islice(gamma_times(rng, shape.rate, 1.0), shape.requests):
        first = popular.draw(rng)
        passages = [first, (first + 1 + NEIGHBOURS.draw(rng)) % shape.documents]
        if rng.random() < SWAPPED:
            passages.reverse()
        units = list(system)
        for passage in passages:
            units += chained(units[-1] if units else 0, passage, lengths[passage])
        prompt = len(units) * UNIT_TOKENS + exponential(rng, shape.question_tokens)
        arrivals.append(Arrival(moment, prompt, exponential(rng, shape.answer_tokens), tuple(units)))
    return in_order("rag", arrivals)


def _whole(tokens: int) -> int:
    """Up to a whole number of units, so that what follows a passage does not change its last one."""
    return -(-tokens // UNIT_TOKENS) * UNIT_TOKENS
