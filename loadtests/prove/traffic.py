"""The requests: from a recording, or conversations made up from a seed. Each has its moment and its right answer. Pure.

A simulated engine's answer follows from the prompt, so that every byte of an answer can be judged. Every round gets its
own prompts: the same lengths and the same shared prefixes under other texts, so that no cache is warm from before.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

from loadtests.sim import chat, prompts
from loadtests.sim.right_answer import expected
from loadtests.sim.simpod.fleet import DEFAULT_MODEL
from loadtests.sim.simulate.traces import Arrival, Trace, read_trace

MOST_PROMPT: Final = 6_000
"""Tokens to which a recording's prompts are cut: the engines here are small."""
MOST_ANSWER: Final = 32
"""Tokens to which its answers are cut: time is short."""

_UNIT: Final = 64
_WORD: Final = 2**64 - 1


class Question(NamedTuple):
    """One request."""

    at_s: float
    """From the start of its round."""
    body: bytes
    stream: bool
    wanted: bytes
    """The text of the right answer."""


def conversations(seed: int = 0, users: int = 24, turns: int = 6) -> Trace:
    """Chat as `sim/conversation.py` has it: four system prompts of 512 tokens, turns that repeat the earlier ones."""
    rng, arrivals = random.Random(seed), []
    for user in range(users):
        units = [rng.randrange(4) << 32 | at for at in range(512 // _UNIT)]
        begins = rng.uniform(0, 60)
        for turn in range(turns):
            units = [*units, *(rng.getrandbits(64) for _ in range(rng.randrange(1, 4)))]
            arrivals.append(
                Arrival(begins + 8 * turn, len(units) * _UNIT, rng.randrange(4, 20), tuple(units), str(user))
            )
    return Trace("conversations", _UNIT, sorted(arrivals, key=lambda each: each.at_s))


def from_file(path: Path | None) -> Trace:
    """A recording of `recording.path`, or another trace that `turnout simulate` reads; None for conversations.

    Raises TraceError, OSError.
    """
    trace = read_trace(path) if path is not None else conversations()
    return trace._replace(
        arrivals=[
            each._replace(
                prompt_tokens=min(each.prompt_tokens, MOST_PROMPT), output_tokens=min(each.output_tokens, MOST_ANSWER)
            )
            for each in trace.arrivals
        ]
    )


def questions(trace: Trace, number: int, count: int, per_s: float) -> Iterator[Question]:
    """Round `number`: the next `count` requests of the trace, which starts again at its end, at a mean rate."""
    rng = random.Random(number)
    salt, at_s = rng.getrandbits(64) | 1, 0.0
    for at in range(number * count, (number + 1) * count):
        arrival = trace.arrivals[at % len(trace.arrivals)]
        units = arrival.units or tuple(
            at << 20 | piece for piece in range(-(-arrival.prompt_tokens // trace.unit_tokens))
        )
        fresh = arrival._replace(units=[(unit + 1) * salt & _WORD for unit in units])
        yield question(at_s, prompts.text(fresh, trace.unit_tokens), arrival.output_tokens, stream=at % 4 != 0)
        at_s += rng.expovariate(per_s)


def question(at_s: float, text: str, tokens: int, *, stream: bool = True) -> Question:
    """A request with one message."""
    messages = [{"role": "user", "content": text}]
    body = chat.body(DEFAULT_MODEL, messages, tokens, stream=stream, ignore_eos=True)
    return Question(at_s, body, stream, expected(messages, tokens))
