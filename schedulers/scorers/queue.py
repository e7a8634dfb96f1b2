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

    `queued` is what the engine reports or, if that is more, what it has of this gateway's (`types.queue_length`).
    Source: llm-d's `queue-scorer`.
    """

    name: ClassVar[str] = "queue"
    needs_all: ClassVar[bool] = False

    def score(self, request: RequestInfo, snapshot: LoadSnapshot, /) -> Scores:
        """One for each candidate."""
        return falling(snapshot.columns.queue)
