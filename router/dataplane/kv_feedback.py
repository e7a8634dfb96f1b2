"""Learns from answers of pods that publish KV events: which engine blocks a prompt's bytes became, and whether what the
events say of its cached tokens was right. Used only where a pool has `kv_events`.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

from router.dataplane.exchange import Placement
from router.dataplane.prefix_feedback import PrefixFeedback, cache_use
from router.dataplane.request.openai import Call
from statesync.kv_events.matching import Answered
from statesync.kv_events.paths import PromptChain
from statesync.kv_events.precise_index import PreciseIndex
from statesync.prefix.accuracy import PrefixAccuracy

_ANSWER: Final = re.compile(rb'"(?:completion|output)_tokens": ?(\d{1,9})\b')


class KvFeedback:
    """Passes answers to the index."""

    def __init__(
        self, learned: PrefixFeedback, accuracy: PrefixAccuracy, index: PreciseIndex, clock: Callable[[], float]
    ) -> None:
        """`learned` takes the answers for which events say nothing."""
        self._learned = learned
        self._accuracy = accuracy
        self._index = index
        self._clock = clock

    def learn(self, call: Call, placement: Placement, tail: bytes) -> None:
        """See `PrefixFeedback.learn`."""
        use = cache_use(tail)
        if use is None:
            return
        info, pod = placement.info, placement.charge.pod
        chain = self._index.chain(call.model, call.prompt)
        assert isinstance(chain, PromptChain)
        counts = use.prompt_tokens, use.cached_tokens, answer_tokens(tail)
        answer = Answered(chain, info.arrived_at, self._clock(), *counts)
        reported = self._index.answered(pod, answer, info.prefix_hits)
        if reported is None:
            self._learned.learn(call, placement, tail)
        else:
            self._accuracy.judge(pod, reported, use.cached_tokens)


def answer_tokens(tail: bytes) -> int:
    """The answer's own tokens, by its usage; 0 if it has none."""
    counts = _ANSWER.findall(tail)
    return int(counts[-1]) if counts else 0
