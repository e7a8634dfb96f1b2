"""`kv_usage`: more of the engine's KV cache free."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from schedulers.types import LoadSnapshot, RequestInfo
from schedulers.weighing import Falling, Scores


@dataclass(frozen=True, slots=True)
class FreeKv:
    """`1 - kv_usage`, by the engine's report. Source: llm-d's `kv-cache-utilization-scorer`."""

    name: ClassVar[str] = "kv_usage"
    needs_all: ClassVar[bool] = False

    def score(self, request: RequestInfo, snapshot: LoadSnapshot, /) -> Scores:
        """The candidates' scores."""
        return Falling(snapshot.columns.kv_usage, 1.0, 1.0)
