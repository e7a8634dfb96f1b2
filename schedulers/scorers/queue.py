"""`queue`: fewer requests waiting in the engine."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from schedulers.scorers.scale import falling
from schedulers.types import LoadSnapshot, RequestInfo
from schedulers.weighing import Scores


@dataclass(frozen=True, slots=True)
class ShortQueue:
    """`(most - queued) / (most - least)` over the candidates; 1 where all are equal.

    `queued` is the engine's report or, if more, the gateways' requests without a first token (`types.queue_length`).
    Source: llm-d's `queue-scorer`.
    """

    name: ClassVar[str] = "queue"
    needs_all: ClassVar[bool] = False

    def score(self, request: RequestInfo, snapshot: LoadSnapshot, /) -> Scores:
        """The candidates' scores."""
        return falling(snapshot.columns.queue)
