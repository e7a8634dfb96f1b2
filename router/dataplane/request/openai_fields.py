"""The fields of a request body that routing reads, and their decoder. Pure; `openai.py` knows what they mean. It is a
file of its own so that mypyc can compile it, which a msgspec Struct prevents: it reads its annotations at run time.
"""

from __future__ import annotations

import msgspec

NONE = msgspec.Raw(b"")
"""The value of a field that the body does not have."""


class RequestBody(msgspec.Struct, gc=False):
    """The fields of all OpenAI-like request bodies that routing reads. Types are checked only for these."""

    model: str | None = None
    cache_salt: msgspec.Raw = NONE
    """vLLM's: prompts with different salts share no cache."""
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
