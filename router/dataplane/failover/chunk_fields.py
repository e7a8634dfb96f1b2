"""The fields of a streamed chunk that failover reads, and their decoder. Pure; `answer_state.py` knows what they mean.
A file of its own because mypyc cannot compile a msgspec Struct.
"""

from __future__ import annotations

import msgspec

ABSENT = msgspec.Raw(b"null")
"""The value of a field that the chunk does not have."""


class ChunkUsage(msgspec.Struct, gc=False):
    """The tokens so far, or of the whole answer."""

    prompt_tokens: int = 0
    completion_tokens: int = 0


class ChunkDelta(msgspec.Struct, gc=False):
    """What a chunk of a chat adds."""

    role: str | None = None
    content: str | None = None
    reasoning: msgspec.Raw = ABSENT
    reasoning_content: msgspec.Raw = ABSENT
    """vLLM's and SGLang's older name."""
    tool_calls: msgspec.Raw = ABSENT
    function_call: msgspec.Raw = ABSENT
    refusal: msgspec.Raw = ABSENT


class ChunkChoice(msgspec.Struct, gc=False):
    """A choice of a chat (`delta`) or of a completion (`text`)."""

    index: int = 0
    delta: ChunkDelta | None = None
    text: str | None = None
    finish_reason: msgspec.Raw = ABSENT
    logprobs: msgspec.Raw = ABSENT
    token_ids: list[int] | None = None


class Chunk(msgspec.Struct, gc=False):
    """One event of a stream of chats or completions. Types are checked only for these fields."""

    id: str = ""
    created: int = 0
    choices: list[ChunkChoice] = []
    usage: ChunkUsage | None = None
    error: msgspec.Raw = ABSENT


decode_chunk = msgspec.json.Decoder(Chunk).decode
"""Raises msgspec.ValidationError or DecodeError, UnicodeDecodeError, RecursionError."""
