"""Long documents, and several questions about each: the document is the prefix of all its questions.

After vLLM's `benchmark_long_document_qa_throughput.py` (documents repeated in random order) with lengths of
the longer tasks of An et al., "L-Eval" (arXiv 2307.11088): lognormal, 32,000 to 120,000 tokens.
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
    exponential,
    fresh,
    gamma_times,
    in_order,
    lognormal,
)


class Documents(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The shape."""

    documents: Count = 400
    rate: Positive = 0.15
    """Documents opened a second."""
    document_tokens: Count = 60_000
    """Mean."""
    questions: Count = 8
    """About a document, in the mean."""
    pause_s: Positive = 40.0
    """Between two questions about a document, in the mean."""
    question_tokens: Count = 150
    answer_tokens: Count = 200


def documents(shape: Documents, seed: int) -> Trace:
    """The trace of that shape, until the last document is opened. Each question is about the document alone, without
    the earlier questions."""
    rng = Random(seed)
    arrivals = []
    moments = list(islice(gamma_times(rng, shape.rate, 1.0), shape.documents))
    for number, opened in enumerate(moments):
        units = tuple(fresh(rng, lognormal(rng, shape.document_tokens, 0.45, 32_000, 120_000)))
        moment = opened
        for _ in range(exponential(rng, shape.questions, 50)):
            prompt = len(units) * UNIT_TOKENS + exponential(rng, shape.question_tokens)
            answer = exponential(rng, shape.answer_tokens)
            arrivals.append(Arrival(moment, prompt, answer, units, f"document-{number}"))
            moment += rng.expovariate(1 / shape.pause_s)
    return in_order("documents", [each for each in arrivals if each.at_s <= moments[-1]])
