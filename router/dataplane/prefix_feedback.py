"""Reads from the end of an answer how much of the prompt the engine had cached, and reports it to `PrefixAccuracy`.

Nothing is parsed: `usage` stands at the end of a body and in the last event of a stream that has it, so its numbers are
searched for by name there. Text that a model wrote cannot be taken for them: in a JSON string every quote is escaped.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from router.dataplane.exchange import Placement
from router.dataplane.request.openai import Call
from statesync.prefix.accuracy import PrefixAccuracy
from statesync.prefix.index import BLOCK_BYTES

TAIL_BYTES: Final = 1536
"""How many of the last bytes are kept and searched. vLLM's chat has 0.4 KB from `usage` to the end, its /v1/responses
0.8 KB."""

SMALL_PIECE: Final = 64
"""Pieces of the body up to this many bytes hold no usage: `data: [DONE]`, a last chunk."""

MARK: Final = b'"cache'
"""In the tail of every answer that reports cached tokens; where it is not, there is nothing to learn."""

_CACHED: Final = b'"cached_tokens":'
_TOKENS: Final = b'_tokens":'
_PROMPTS: Final = frozenset((b"prompt", b'"input'))
_READ: Final = b'"cache_read_input_tokens":'
_COUNT: Final = re.compile(rb" ?(\d{1,9})\b")
_PARTS: Final = re.compile(rb'"(cache_read_|cache_creation_|)input_tokens": ?(\d{1,9})\b')


class PrefixFeedback:
    """Learns from answers that report cached tokens: 3 us each."""

    def __init__(self, prefix_accuracy: PrefixAccuracy) -> None:
        self._prefix_accuracy = prefix_accuracy

    def learn(self, call: Call, placement: Placement, tail: bytes) -> None:
        """Compare the prediction for `placement` with `tail`, the last bytes of an answer with status 200.

        An engine counts its own tokens, so fractions of the prompt are compared: the predicted bytes as a fraction of
        all bytes, times the engine's number of prompt tokens. Images count by their bytes.
        """
        info, charge = placement.info, placement.charge
        use = cache_use(tail)
        if use is None:
            return
        size = sum(map(len, call.prompt))
        known = min(size, info.prefix_hits.get(charge.pod, 0) * BLOCK_BYTES)
        self._prefix_accuracy.judge(charge.pod, use.prompt_tokens * known // size, use.cached_tokens)


class CacheUse(NamedTuple):
    """What the engine reports of one prompt, in its own tokens."""

    prompt_tokens: int
    cached_tokens: int
    """Those of `prompt_tokens` that were found in the prefix cache."""


def cache_use(tail: bytes) -> CacheUse | None:
    """The counts, in OpenAI's or Anthropic's shape; None where the end of the answer does not have both."""
    at = tail.rfind(b'"usage":', -TAIL_BYTES)  # the last one: an engine may repeat it in every event
    if at < 0:
        return None
    where = tail.find(_CACHED, at)
    if where < 0:
        return _anthropic(tail, at) if tail.find(_READ, at) >= 0 else None
    cached = _COUNT.match(tail, where + len(_CACHED))
    first = tail.find(_TOKENS, at)  # every engine writes the prompt's count first
    total = _COUNT.match(tail, first + len(_TOKENS))
    if cached is None or total is None or tail[first - 6 : first] not in _PROMPTS:
        return None
    return _use(int(total[1]), int(cached[1]))


def _anthropic(tail: bytes, at: int) -> CacheUse | None:
    """Anthropic has three counts: read from the cache, written to it, and neither. The prompt is their sum."""
    counts = dict(_PARTS.findall(tail, at))
    return _use(sum(map(int, counts.values())), int(counts.get(b"cache_read_", 0)))


def _use(total: int, found: int) -> CacheUse | None:
    return CacheUse(total, found) if found <= total else None
