"""`inflight_tokens`: less in flight, in tokens."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from schedulers.params import parameter
from schedulers.scorers.scale import halving
from schedulers.types import LoadSnapshot, RequestInfo
from schedulers.weighing import Scores


@dataclass(frozen=True, slots=True)
class FewTokens:
    """`half_tokens / (half_tokens + load)`, load as in `least_load`. Not scaled to the candidates, so that a few tokens
    more or less weigh little. Source: llm-d's `token-load-scorer`, which is linear up to 4 million.
    """

    name: ClassVar[str] = "inflight_tokens"
    needs_all: ClassVar[bool] = False

    half_tokens: int = parameter(32_768, low=1)

    def score(self, request: RequestInfo, snapshot: LoadSnapshot, /) -> Scores:
        """The candidates' scores."""
        return halving(snapshot.columns.tokens, self.half_tokens)
