"""What an answer's last bytes say of the engine's prefix cache. Pure: bytes in, two counts or None out.

Nothing is parsed: `usage` stands at the end of a body and in the last event of a stream that has it, so its numbers are
searched for by name there. Text that a model wrote cannot be taken for them: in a JSON string every quote is escaped.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

TAIL_BYTES: Final = 1536
"""How much of the end is looked at. vLLM's /v1/responses has 0.8 KB from the counts to the end, its chat 0.4 KB."""

SMALL_PIECE: Final = 64
"""What comes in so few bytes holds no usage: `data: [DONE]`, a last chunk."""

_CACHED: Final = re.compile(rb'"cached_tokens": ?(\d{1,9})\b')
_PROMPT: Final = re.compile(rb'"(?:prompt|input)_tokens": ?(\d{1,9})\b')
_READ: Final = re.compile(rb'"cache_read_input_tokens": ?(\d{1,9})\b')
_PARTS: Final = re.compile(rb'"(?:cache_read_|cache_creation_|)input_tokens": ?(\d{1,9})\b')


class CacheUse(NamedTuple):
    """What the engine says of one prompt, in its own tokens."""

    prompt_tokens: int
    cached_tokens: int
    """Of these, found in its prefix cache."""


def cache_use(tail: bytes) -> CacheUse | None:
    """The counts in OpenAI's or Anthropic's shape; None where the end of the answer does not give both."""
    at = tail.rfind(b'"usage":', -TAIL_BYTES)  # the last: an engine may repeat it with every event
    if at < 0 or tail.find(b"cache", at) < 0:
        return None
    if (cached := _CACHED.search(tail, at)) is not None:
        prompts = _PROMPT.findall(tail, at)[:1]
    elif (cached := _READ.search(tail, at)) is not None:
        prompts = _PARTS.findall(tail, at)  # Anthropic counts apart what was not cached
    if cached is None or not prompts:
        return None
    prompt, found = sum(map(int, prompts)), int(cached.group(1))
    return CacheUse(prompt, found) if found <= prompt else None
