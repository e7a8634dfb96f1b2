"""`headroom`: pods that are not full."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from sys import maxsize
from typing import ClassVar

from schedulers.params import parameter
from schedulers.types import LoadSnapshot, RequestInfo


@dataclass(frozen=True, slots=True)
class HasHeadroom:
    """Passes pods with at most `kv_usage` of the KV cache in use, fewer than `queued` requests waiting in the engine
    and fewer than `inflight` dispatched. 0 is no limit; for `kv_usage` it is 1.

    Source: the saturation detector of the Gateway API inference extension (there queue depth 5 and KV usage 0.8).
    """

    name: ClassVar[str] = "headroom"

    kv_usage: float = parameter(0.95, low=0.0, high=1.0)
    queued: int = parameter(64, low=0)
    inflight: int = parameter(0, low=0)
    required: bool = False

    def passes(self, request: RequestInfo, snapshot: LoadSnapshot, /) -> Sequence[int]:
        """Positions of the pods with room."""
        usage, queued, inflight = self.kv_usage, self.queued or maxsize, self.inflight or maxsize
        return [
            at
            for at, (_, load) in enumerate(snapshot.candidates)
            if load.kv_usage <= usage and load.queued < queued and load.inflight < inflight
        ]
