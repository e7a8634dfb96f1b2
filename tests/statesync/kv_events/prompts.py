"""Prompts of bytes whose engine blocks are known: a block for every `BYTES` bytes."""

from __future__ import annotations

from xxhash import xxh3_64_intdigest

from statesync.kv_events.paths import PromptChain
from statesync.prefix.block_hash import chain

BYTES = 40


def prompt(text: bytes) -> PromptChain:
    """The prompt as the index sees it."""
    return PromptChain(chain("m", (text,)), text)


def keys_of(text: bytes) -> list[int]:
    """The keys of its engine blocks. An engine's template ends a prompt otherwise than its bytes end."""
    whole = text[:-1]
    return [xxh3_64_intdigest(whole[:end]) for end in range(BYTES, len(whole) + 1, BYTES)]
