"""The fields of a streamed chunk that failover reads, and their decoder. Pure; `answer_state.py` knows what they mean.
A file of its own because mypyc cannot compile a msgspec Struct.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

NO_IDS: Final = msgspec.Raw()


class ChunkUsage(msgspec.Struct, gc=False):
    """The tokens so far, or of the whole answer."""

    prompt_tokens: int = 0
    completion_tokens: int = 0


class ChunkDelta(msgspec.Struct, gc=False):
    """What a chunk of a chat adds."""

    role: str | None = None
    content: str | None = None
    reasoning: Any = None
    reasoning_content: Any = None
    """vLLM's and SGLang's older name."""
    tool_calls: Any = None
    function_call: Any = None
    refusal: Any = None


class ChunkChoice(msgspec.Struct, gc=False):
    """A choice of a chat (`delta`) or of a completion (`text`)."""

    index: int = 0
    delta: ChunkDelta | None = None
    text: str | None = None
    finish_reason: Any = None
    logprobs: Any = None
    token_ids: msgspec.Raw = NO_IDS
    prompt_token_ids: msgspec.Raw = NO_IDS
    """Of a completion, in its first chunk."""


class Chunk(msgspec.Struct, gc=False):
    """One event of a stream of chats or completions. Types are checked only for these fields."""

    id: str = ""
    created: int = 0
    choices: list[ChunkChoice] = []
    usage: ChunkUsage | None = None
    prompt_token_ids: msgspec.Raw = NO_IDS
    """Of a chat, in its first chunk."""
    error: Any = None


decode_chunk = msgspec.json.Decoder(Chunk).decode
"""Raises msgspec.ValidationError or DecodeError, UnicodeDecodeError, RecursionError."""
