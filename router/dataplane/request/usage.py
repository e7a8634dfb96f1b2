"""What an answer's last bytes say of the engine's prefix cache. Pure: bytes in, two counts or None out.

Nothing is parsed: `usage` stands at the end of a body and in the last event of a stream that has it, so its numbers are
searched for by name there. Text that a model wrote cannot be taken for them: in a JSON string every quote is escaped.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

TAIL_BYTES: Final = 640
"""How much of the end is looked at, at five instructions a byte. vLLM's chat has 0.4 KB from `usage` to the end; its
/v1/responses has 0.8 KB and is left to the counters."""

SMALL_PIECE: Final = 64
"""What comes in so few bytes holds no usage: `data: [DONE]`, a last chunk."""

_CACHED: Final = b'"cached_tokens":'
_TOKENS: Final = b'_tokens":'
_PROMPTS: Final = frozenset((b"prompt", b'"input'))
_READ: Final = b'"cache_read_input_tokens":'
_COUNT: Final = re.compile(rb" ?(\d{1,9})\b")
_PARTS: Final = re.compile(rb'"(cache_read_|cache_creation_|)input_tokens": ?(\d{1,9})\b')


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
    where = tail.find(_CACHED, at)
    if where < 0:
        return _anthropic(tail, at) if tail.find(_READ, at) >= 0 else None
    cached = _COUNT.match(tail, where + len(_CACHED))
    first = tail.find(_TOKENS, at)  # every engine names the prompt's before all others
    total = _COUNT.match(tail, first + len(_TOKENS))
    if cached is None or total is None or tail[first - 6 : first] not in _PROMPTS:
        return None
    return _use(int(total[1]), int(cached[1]))


def _anthropic(tail: bytes, at: int) -> CacheUse | None:
    """What was read from the cache, written to it and neither are counted apart."""
    counts = dict(_PARTS.findall(tail, at))
    return _use(sum(map(int, counts.values())), int(counts.get(b"cache_read_", 0)))


def _use(total: int, found: int) -> CacheUse | None:
    return CacheUse(total, found) if found <= total else None
