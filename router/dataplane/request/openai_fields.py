"""The fields of a request body that routing reads, and the decoder that finds them. Pure; what they mean is known to
`openai.py`, which is apart so that mypyc can compile it: a msgspec Struct reads its annotations at run time.
"""

from __future__ import annotations

import msgspec

NONE = msgspec.Raw(b"")
"""A field that is not there."""


class RequestBody(msgspec.Struct, gc=False):
    """The fields of all OpenAI-like request bodies that routing reads. Types are checked only for these."""

    model: str | None = None
    cache_salt: msgspec.Raw = NONE
    """vLLM's: prompts share no cache with those of another salt."""
    messages: msgspec.Raw = NONE
    prompt: msgspec.Raw = NONE
    input: msgspec.Raw = NONE
    system: msgspec.Raw = NONE
    instructions: msgspec.Raw = NONE
    tools: msgspec.Raw = NONE
    query: msgspec.Raw = NONE
    documents: msgspec.Raw = NONE
    text_1: msgspec.Raw = NONE
    max_tokens: int | float | None = None
    max_completion_tokens: int | float | None = None
    max_output_tokens: int | float | None = None
    stream: bool | None = None
    prompt_cache_key: str | None = None
    user: str | None = None


decode = msgspec.json.Decoder(RequestBody).decode
"""Raises msgspec.ValidationError or DecodeError, UnicodeDecodeError, RecursionError."""
