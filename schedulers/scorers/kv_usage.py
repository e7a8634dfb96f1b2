"""`kv_usage`: more of the engine's KV cache free."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from schedulers.protocols import Scores
from schedulers.scorers.column import column, field
from schedulers.types import LoadSnapshot, RequestInfo

_USAGE = field("kv_usage")


@dataclass(frozen=True, slots=True)
class FreeKv:
    """`1 - kv_usage`, by the engine's report. Source: llm-d's `kv-cache-utilization-scorer`."""

    name: ClassVar[str] = "kv_usage"
    needs_all: ClassVar[bool] = False

    def score(self, request: RequestInfo, snapshot: LoadSnapshot, /) -> Scores:
        """One for each candidate."""
        return [1.0 - usage for usage in column(_USAGE, snapshot)]
