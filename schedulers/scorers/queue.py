"""`queue`: fewer requests waiting in the engine."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from schedulers.protocols import Scores
from schedulers.scorers.column import column, field
from schedulers.scorers.scale import falling
from schedulers.types import LoadSnapshot, RequestInfo

_COUNTS = field("queued", "prefilling")


@dataclass(frozen=True, slots=True)
class ShortQueue:
    """`(most - queued) / (most - least)` over the candidates; 1 where all are equal.

    `queued` is the engine's report or, if that is more, the requests dispatched to it whose first token has not come
    back: the report is up to a scrape old, in which a burst would go to one pod.
    Source: llm-d's `queue-scorer`.
    """

    name: ClassVar[str] = "queue"
    needs_all: ClassVar[bool] = False

    def score(self, request: RequestInfo, snapshot: LoadSnapshot, /) -> Scores:
        """One for each candidate."""
        # `max` would cost as much again as all the rest: 0.1 us a pod.
        return falling([said if said > sent else sent for said, sent in column(_COUNTS, snapshot)])
