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
    if at < 0:
        return None
    if (cached := _CACHED.search(tail, at)) is not None:
        prompt = _PROMPT.search(tail, at)
        total = int(prompt.group(1)) if prompt is not None else 0
    elif (cached := _READ.search(tail, at)) is not None:
        total = sum(map(int, _PARTS.findall(tail, at)))  # Anthropic counts apart what was not cached
    else:
        return None
    found = int(cached.group(1))
    return CacheUse(total, found) if found <= total else None
