"""Which values an engine takes: ranges of sampling parameters, room for prompt and answer. Pure; vLLM's messages."""

from __future__ import annotations

import math
from collections.abc import Callable

from loadtests.sim.simpod.bodies import Sampled
from loadtests.sim.simpod.errors import rejected
from loadtests.sim.simpod.script import PodSpec
from loadtests.sim.simpod.text import Prompt

_MAX_N = 16384
_RANGES: tuple[tuple[str, Callable[[float], bool], str, bool], ...] = (
    ("presence_penalty", lambda one: -2.0 <= one <= 2.0, "must be in [-2, 2], got {}.", False),
    ("frequency_penalty", lambda one: -2.0 <= one <= 2.0, "must be in [-2, 2], got {}.", False),
    ("repetition_penalty", math.isfinite, "must be a finite number, got {}.", False),
    ("repetition_penalty", lambda one: one > 0.0, "must be greater than zero, got {}.", False),
    ("temperature", math.isfinite, "must be a finite number, got {}.", True),
    ("temperature", lambda one: one >= 0.0, "must be non-negative, got {}.", True),
    ("temperature", lambda one: one <= 2.0, "must be in [0, 2], got {}.", True),
    ("top_p", lambda one: 0.0 < one <= 1.0, "must be in (0, 1], got {}.", True),
    ("top_k", lambda one: one >= -1, "must be 0 (disable), or at least 1, got {}.", False),
    ("min_p", lambda one: 0.0 <= one <= 1.0, "must be in [0, 1], got {}.", False),
)
"""Field, what holds of its value, vLLM's message, and whether vLLM names the parameter in it."""
_RANGED = frozenset(field for field, *_ in _RANGES)


def check_sampling(body: Sampled, limit: int | None, n: int = 1) -> None:
    """ApiError for the first sampling parameter that an engine rejects; `limit` is the most tokens asked for."""
    for field, holds, message, named in () if _RANGED.isdisjoint(body.model_fields_set) else _RANGES:
        value = getattr(body, field)
        if value is not None and not holds(value):
            raise rejected(f"{field} {message.format(value)}", *((field, value) if named else ()))
    if n < 1:
        raise rejected(f"n must be at least 1, got {n}.")
    if n > _MAX_N:
        raise rejected(f"n must be at most {_MAX_N}, got {n}.")
    if limit is not None and limit < 1:
        raise rejected(f"max_tokens must be at least 1, got {limit}.", "max_tokens", limit)
    if body.min_tokens < 0:
        raise rejected(f"min_tokens must be greater than or equal to 0, got {body.min_tokens}.")
    if limit is not None and body.min_tokens > limit:
        raise rejected(f"min_tokens must be less than or equal to max_tokens={limit}, got {body.min_tokens}.")
    if body.stop == "" or (isinstance(body.stop, list) and "" in body.stop):
        raise rejected("stop cannot contain an empty string.")
    if n > 1 and body.temperature == 0.0:
        raise rejected(f"n must be 1 when using greedy sampling, got {n}.")


def check_stream_options(body: Sampled) -> None:
    """ApiError for stream options without a stream."""
    if body.stream_options is not None and not body.stream:
        raise rejected("Stream options can only be defined when `stream=True`.", "stream_options")


def limit_of(prompt: Prompt, limit: int | None, spec: PodSpec, field: str = "max_tokens") -> int:
    """The most tokens to generate: what was asked for in `field`, as far as it fits the context.

    ApiError if the limit alone or the prompt alone is longer than the context.
    """
    longest = spec.profile.max_model_len
    if limit is not None and limit > longest:
        message = f"{field}={limit} cannot be greater than max_model_len={longest}. Please request fewer output tokens."
        raise rejected(message, field, limit)
    if prompt.tokens > longest:
        found = f"your prompt contains at least {longest + 1} input tokens, which exceeds this limit even without any"
        message = f"This model's maximum context length is {longest} tokens. However, {found} output tokens. "
        raise rejected(message + "Please reduce the length of the input prompt.", "input_tokens", longest + 1)
    room = longest - prompt.tokens
    return room if limit is None else min(limit, room)
