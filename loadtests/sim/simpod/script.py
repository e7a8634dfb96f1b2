"""Scripts: answers without their timing, and what the APIs share in writing them. Pure.

Each API's module writes scripts; `pump.py` sends them as the engine produces their tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import msgspec

from loadtests.sim.engine.profiles import EngineProfile
from loadtests.sim.engine.types import EngineRequest, RequestId
from loadtests.sim.simpod.errors import ApiError
from loadtests.sim.simpod.text import Prompt

CREATED = 1_795_332_843
"""The `created` stamp of every answer: a constant, so that answers to one prompt are equal byte for byte."""
FINGERPRINT = "vllm-0.32.0-3602b7d8"
MARK = "\x00"
"""Stands for a token's text while an event is encoded; JSON writes it as `\\u0000`."""

encode = msgspec.json.encode


class PodSpec(NamedTuple):
    """Everything besides the request that a pod's answers depend on."""

    name: str
    models: tuple[str, ...]
    profile: EngineProfile
    output_mean_tokens: float = 128.0
    """Mean length of an answer that is not cut off by `max_tokens`."""
    adapters: Mapping[str, str] = {}
    """Those of the models that are LoRA adapters, and their paths."""


class Choice(NamedTuple):
    """One sequence that the engine generates for an answer; a request may ask for several."""

    prompt_tokens: int
    block_ids: Sequence[int]
    tokens: int
    """Tokens to generate; 0 where only the prompt is computed."""
    finish: str
    """vLLM's finish reason: `stop` or `length`."""
    max_tokens: int | None
    event: Callable[[int], bytes] | None = None
    """What a stream sends for a token, by its number; empty where a token sends nothing."""
    priority: int = 0
    """Lower goes first, where the engine schedules by priority."""
    transferred: int = 0
    """Prompt tokens that another engine computed."""

    def request(self, request_id: RequestId, arrived_at: float) -> EngineRequest:
        """The request to the engine."""
        sizes = self.prompt_tokens, self.block_ids, self.tokens
        return EngineRequest(request_id, *sizes, arrived_at, self.priority, self.transferred)


class Script(NamedTuple):
    """An answer without its timing. The callables take the number of cached prompt tokens."""

    choices: Sequence[Choice]
    whole: Callable[[int], bytes]
    """The body of an answer that is not streamed."""
    stream: Stream | None = None
    kept: Callable[[int], None] | None = None
    """Called when all tokens were produced; for answers that can be fetched later."""


class Stream(NamedTuple):
    """The events of a streamed answer, besides those of its tokens."""

    opening: Callable[[int], Sequence[bytes]]
    """Events before the first token."""
    closing: Callable[[int], Sequence[bytes]]
    """Events after the last token."""


def name_of(prompt: Prompt) -> str:
    """What follows the prefix of an answer's id."""
    return f"{prompt.seed + prompt.begun & 2**64 - 1:016x}"


def token_events(pieces: Sequence[bytes], event: bytes, last: bytes) -> Callable[[int], bytes]:
    """Events that differ in the token's text only: MARK stands for it in `event`, and in `last`, the last token's."""
    before, after = split(event)
    last_before, last_after = split(last)
    end = len(pieces) - 1

    def one(at: int) -> bytes:
        return before + pieces[at] + after if at < end else last_before + pieces[at] + last_after

    return one


def split(framed: bytes) -> tuple[bytes, bytes]:
    """The parts of an event before and after the mark in it."""
    before, _, after = framed.partition(b"\\u0000")
    return before, after


def model_of(asked: str | None, spec: PodSpec) -> str:
    """The model asked for, by default the first one; ApiError 404 for one that is not served."""
    model = asked or spec.models[0]
    if model not in spec.models:
        known = ", ".join(spec.models)
        message = f"The model `{model}` does not exist. Valid aliases: {known}."
        raise ApiError(404, message, "NotFoundError", "model")
    return model


def event(payload: object) -> bytes:
    """A server-sent event as OpenAI's older APIs send it."""
    return b"data: %b\n\n" % encode(payload)


def named_event(payload: Mapping[str, object]) -> bytes:
    """A server-sent event that carries its type as its name, too."""
    return b"event: %b\ndata: %b\n\n" % (str(payload["type"]).encode(), encode(payload))
