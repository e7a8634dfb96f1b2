"""The engine model's inputs and outputs, and its state of a request. No behaviour."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

RequestId = str | int


class RequestTooLong(ValueError):
    """Prompt and answer exceed the model's length or the whole KV cache: it could never run."""


class DuplicateRequest(ValueError):
    """A request of that id is queued or running."""


class EngineRequest(NamedTuple):
    """A request as an engine sees it."""

    id: RequestId
    prompt_tokens: int
    """At least 1."""
    block_ids: Sequence[int]
    """Chained hash ids of the prompt's full units, in order; more of them name the answer's, which then are cached
    too, as the next turn of a conversation will ask for them."""
    output_tokens: int
    """Tokens to generate; 0 for requests that only compute their prompt (embeddings)."""
    arrived_at: float = 0.0
    """Seconds on the caller's clock; only its order is used, and only among requests of one priority."""
    priority: int = 0
    """Lower goes first, where the engine schedules by priority."""
    transferred: int = 0
    """Prompt tokens whose KV another engine computed and which were copied here before."""


class StepResult(NamedTuple):
    """What one call of `next_step` did; true from the end of the step on."""

    duration_s: float
    steps: int
    """Engine steps taken; 1 unless the caller allowed a leap."""
    tokens: tuple[RequestId, ...]
    """Requests that got `steps` more tokens each."""
    first_tokens: tuple[RequestId, ...]
    """Requests that got their first token."""
    finished: tuple[RequestId, ...]
    preempted: tuple[RequestId, ...]
    admitted: tuple[tuple[RequestId, int], ...]
    """Requests that left the queue for the first time, and the prompt tokens found in the prefix cache."""
    prefill_tokens: int
    """Prompt tokens computed."""


class Step:
    """A step under construction."""

    __slots__ = (
        "admitted",
        "duration_s",
        "finished",
        "first_tokens",
        "preempted",
        "prefill_tokens",
        "steps",
        "tokens",
    )

    def __init__(self) -> None:
        self.duration_s = 0.0
        self.steps = 1
        self.prefill_tokens = 0
        self.tokens: list[RequestId] = []
        self.first_tokens: list[RequestId] = []
        self.finished: list[RequestId] = []
        self.preempted: list[RequestId] = []
        self.admitted: list[tuple[RequestId, int]] = []

    def result(self) -> StepResult:
        """The step as a value."""
        return StepResult(
            self.duration_s,
            self.steps,
            tuple(self.tokens),
            tuple(self.first_tokens),
            tuple(self.finished),
            tuple(self.preempted),
            tuple(self.admitted),
            self.prefill_tokens,
        )


class Live:
    """A request inside the engine."""

    __slots__ = (
        "cached_tokens",
        "computed",
        "decoding",
        "emitted",
        "entered",
        "held",
        "order",
        "request",
        "slot",
        "target",
    )

    def __init__(self, request: EngineRequest) -> None:
        self.request = request
        self.target = request.prompt_tokens
        """Tokens to compute before the next token: the prompt, and after a preemption the answer so far."""
        self.computed = 0
        """Tokens with computed KV; while decoding it is not updated, the step counter is."""
        self.emitted = 0
        """Answer tokens; while decoding as of `entered`."""
        self.cached_tokens: int | None = None
        """Found in the prefix cache at first admission."""
        self.held: list[int] = []
        """Units held, in the prompt's order."""
        self.decoding = False
        self.entered = 0
        """Step counter at its first decode step."""
        self.order = -1
        """Distinguishes its entry in the heap of ends from stale ones."""
        self.slot = 0
        """Its place in the ring: where it needs its next block."""

    def restart(self) -> None:
        """Preempted: computed KV is lost, tokens already answered remain."""
        self.target = self.request.prompt_tokens + self.emitted
        self.computed = 0
