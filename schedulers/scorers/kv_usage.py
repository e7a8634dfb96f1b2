"""`kv_usage`: more of the engine's KV cache free."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from schedulers.protocols import Scores
from schedulers.types import LoadSnapshot, RequestInfo


@dataclass(frozen=True, slots=True)
class FreeKv:
    """`1 - kv_usage`, by the engine's report. Source: llm-d's `kv-cache-utilization-scorer`."""

    name: ClassVar[str] = "kv_usage"
    needs_all: ClassVar[bool] = False

    def score(self, request: RequestInfo, snapshot: LoadSnapshot, /) -> Scores:
        """One for each candidate."""
        return [1.0 - load.kv_usage for _, load in snapshot.candidates]
