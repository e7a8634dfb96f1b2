"""After an answer: what its end says of the pod's prefix cache goes to the judge of the index (`accuracy.py`).

Knows how much of which prompt the index predicted for a pod; of an answer only its last bytes, which it hands on.
"""

from __future__ import annotations

from router.dataplane.exchange import Placement
from router.dataplane.request.openai import Call
from router.dataplane.request.usage import cache_use
from statesync.prefix.accuracy import PrefixAccuracy
from statesync.prefix.index import BLOCK_BYTES


class PrefixFeedback:
    """Learns from answers. 0.5 us for one that does not say what was cached, 3 us for one that does."""

    def __init__(self, prefix_accuracy: PrefixAccuracy) -> None:
        self._prefix_accuracy = prefix_accuracy

    def learn(self, call: Call, placement: Placement, tail: bytes) -> None:
        """The answer to a request with a prefix chain ended well; these are its last bytes.

        An engine counts in tokens of its own, so shares of the prompt are compared: bytes that were predicted against
        all of its bytes. The shares of images are those of their bytes.
        """
        info, charge = placement.info, placement.charge
        use = cache_use(tail)
        if use is None:
            self._prefix_accuracy.unjudged(charge.pod, info.prompt_tokens, charge.cached)
            return
        size = sum(map(len, call.prompt))
        known = min(size, info.prefix_hits.get(charge.pod, 0) * BLOCK_BYTES)
        self._prefix_accuracy.judge(charge.pod, use.prompt_tokens * known // size, use.cached_tokens)
