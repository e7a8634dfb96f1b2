"""`outlook`: an earlier expected start of the prompt."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from schedulers.params import parameter
from schedulers.ttft import start_in
from schedulers.types import LoadSnapshot, RequestInfo
from schedulers.weighing import Scores


@dataclass(frozen=True, slots=True)
class EarlyStart:
    """`half_s / (half_s + wait)`; `wait`: seconds until the pod has computed the prompts it has.

    Source: own; the first term of `prefix_aware` (`ttft.py`).
    """

    name: ClassVar[str] = "outlook"
    needs_all: ClassVar[bool] = False

    half_s: float = parameter(0.5, low=0.001, high=3600.0)

    def score(self, request: RequestInfo, snapshot: LoadSnapshot, /) -> Scores:
        """The candidates' scores."""
        now, half, columns = max(request.arrived_at, snapshot.taken_at), self.half_s, snapshot.columns
        return [
            half / (half + start_in(due, least, now)) for due, least in zip(columns.until, columns.wait, strict=True)
        ]
