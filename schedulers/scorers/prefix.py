"""`prefix`: more of the prompt cached."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from schedulers.scorers.column import shares
from schedulers.types import PREFIX_BLOCK_TOKENS, LoadSnapshot, RequestInfo
from schedulers.weighing import Scores


@dataclass(frozen=True, slots=True)
class PrefixShare:
    """The share of the prompt's tokens that the pod is expected to hold. Source: llm-d's `prefix-cache-scorer`."""

    name: ClassVar[str] = "prefix"
    needs_all: ClassVar[bool] = False

    def score(self, request: RequestInfo, snapshot: LoadSnapshot, /) -> Scores:
        """The candidates' scores."""
        hits = request.prefix_hits
        if not hits:
            return 0.0
        each = PREFIX_BLOCK_TOKENS / request.prompt_tokens
        if len(hits) * 2 <= len(snapshot.candidates):
            positions = snapshot.position_of()
            return {
                positions[pod]: share if (share := blocks * each) < 1.0 else 1.0
                for pod, blocks in hits.items()
                if pod in positions
            }
        return shares(hits, snapshot, each)
