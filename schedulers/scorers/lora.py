"""`lora`: pods that have the request's adapter in use, or room for it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from schedulers.scorers.column import column, field
from schedulers.types import LoadSnapshot, RequestInfo
from schedulers.weighing import Scores

_ADAPTERS = field("adapters")


@dataclass(frozen=True, slots=True)
class AdapterInUse:
    """1 if the adapter that `request.model` names is in use, 0.8 if there is room for one more, 0.6 if queued requests
    need it, else 0; 0 also if the engine does not report adapters.

    Source: `lora-affinity-scorer` of llm-d and the Gateway API inference extension.
    """

    name: ClassVar[str] = "lora"
    needs_all: ClassVar[bool] = True

    def score(self, request: RequestInfo, snapshot: LoadSnapshot, /) -> Scores:
        """The candidates' scores."""
        model = request.model
        return [
            1.0 if model in active else 0.8 if len(active) + len(waiting) < limit else 0.6 if model in waiting else 0.0
            for active, waiting, limit in column(_ADAPTERS, snapshot)
        ]
