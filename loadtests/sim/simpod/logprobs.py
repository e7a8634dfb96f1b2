"""Log probabilities of an answer's tokens, in the forms of both of OpenAI's APIs. Pure.

They follow from the token alone: the sampled one is the likeliest, its alternatives are other words of the vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import xxhash

from loadtests.sim.simpod.text import VOCABULARY, Prompt, pieces_of, token_id

MOST = 20
"""vLLM's `--max-logprobs`."""


def of_token(word: str) -> float:
    """The sampled token's log probability: between -1 and 0."""
    return -(xxhash.xxh3_64_intdigest(word.encode(errors="replace")) % 1000 + 1) / 1024


def ranked(word: str, count: int) -> list[tuple[str, float]]:
    """The likeliest tokens in its place, itself first."""
    first = of_token(word)
    start = xxhash.xxh3_64_intdigest(word.encode(errors="replace"))
    others = [VOCABULARY[(start + at) % len(VOCABULARY)].decode() for at in range(count + 1)]
    found = [word, *[other for other in others if other != word]][:count]
    return [(one, first - at) for at, one in enumerate(found)]


def chat_entry(word: str, top: int) -> dict[str, Any]:
    """One token as chat completions list it."""
    return _entry(word, of_token(word)) | {"top_logprobs": [_entry(*each) for each in ranked(word, top)]}


def completion_logprobs(words: Sequence[str], top: int, offset: int = 0, unscored: int = 0) -> dict[str, Any]:
    """Tokens as completions list them; the first `unscored` ones have no probability, as a prompt's first token."""
    offsets = []
    for word in words:
        offsets.append(offset)
        offset += len(word)
    scored = [None if at < unscored else of_token(word) for at, word in enumerate(words)]
    tops = [None if at < unscored else dict(ranked(word, max(top, 1))) for at, word in enumerate(words)]
    return {"text_offset": offsets, "token_logprobs": scored, "tokens": list(words), "top_logprobs": tops}


def prompt_logprobs(prompt: Prompt, top: int) -> list[dict[int, dict[str, Any]] | None]:
    """The prompt's tokens as both APIs list them: by number, with rank; the first one has none."""
    scored: list[dict[int, dict[str, Any]] | None] = [None]
    for piece in pieces_of(prompt.text)[1:]:
        found = ranked(piece.decode(errors="replace"), max(top, 1))
        entries = {
            token_id(word.encode()): {"logprob": value, "rank": at + 1, "decoded_token": word}
            for at, (word, value) in enumerate(found)
        }
        scored.append(entries)
    return scored


def _entry(word: str, logprob: float) -> dict[str, Any]:
    return {"token": word, "logprob": logprob, "bytes": list(word.encode(errors="replace"))}
