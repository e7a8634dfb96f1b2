"""`locality`: pods near the gateway, by their labels and its own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from schedulers.parts import texts
from schedulers.types import LoadSnapshot, RequestInfo
from schedulers.weighing import Scores


@dataclass(frozen=True, slots=True)
class Nearness:
    """By the first of `labels` that the pod shares with the gateway: 1 for the first, down evenly to 0 for none.

    With the default `[zone, cluster]`: 1 in the gateway's zone, 0.5 elsewhere in its cluster, 0 in another. The
    gateway's own labels are the setting `labels`; a label that it does not have is shared with no pod.
    Source: llm-d's `topology-affinity-scorer`; Envoy's zone-aware routing.
    """

    name: ClassVar[str] = "locality"
    needs_all: ClassVar[bool] = True

    labels: tuple[str, ...] = texts("zone", "cluster")

    def __post_init__(self) -> None:
        if not self.labels:
            raise ValueError("labels must name at least one, the nearest first")

    def score(self, request: RequestInfo, snapshot: LoadSnapshot, /) -> Scores:
        """The candidates' scores."""
        if not snapshot.home:
            return 0.0
        seen: dict[int, float] = {}  # the pods of a pool mostly share their labels
        scores: list[float] = []
        for pod, _ in snapshot.candidates:
            score = seen.get(id(pod.labels))
            if score is None:
                score = seen[id(pod.labels)] = self._shared(pod.labels, snapshot.home)
            scores.append(score)
        return scores

    def _shared(self, pod: Mapping[str, str], home: Mapping[str, str]) -> float:
        for at, label in enumerate(self.labels):
            if label in home and pod.get(label) == home[label]:
                return 1.0 - at / len(self.labels)
        return 0.0
