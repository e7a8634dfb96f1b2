"""`prefix`: more of the prompt cached."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from schedulers.protocols import Scores
from schedulers.types import PREFIX_BLOCK_TOKENS, LoadSnapshot, RequestInfo

_FEW = 4
"""Where less than one pod in so many holds anything, only those are looked at."""


@dataclass(frozen=True, slots=True)
class PrefixShare:
    """The share of the prompt's tokens that the pod is believed to hold. Source: llm-d's `prefix-cache-scorer`."""

    name: ClassVar[str] = "prefix"
    needs_all: ClassVar[bool] = False

    def score(self, request: RequestInfo, snapshot: LoadSnapshot, /) -> Scores:
        """One for each candidate."""
        hits = request.prefix_hits
        if not hits:
            return 0.0
        each = PREFIX_BLOCK_TOKENS / request.prompt_tokens
        shares = {blocks: min(1.0, blocks * each) for blocks in (0, *hits.values())}
        positions = snapshot.positions
        if positions is None or len(hits) * _FEW > len(positions):
            held = hits.get
            return [shares[held(pod.id, 0)] for pod, _ in snapshot.candidates]
        return {positions[pod]: shares[blocks] for pod, blocks in hits.items() if pod in positions}
