"""`label`: pods with, or without, one of these values of a label."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from schedulers.params import parameter
from schedulers.parts import texts
from schedulers.types import LoadSnapshot, RequestInfo


@dataclass(frozen=True, slots=True)
class HasLabel:
    """Passes pods whose label is `equals`, is one of `in`, or is none of `not_in`; one of the three is given.

    A pod without the label has no value of it, so it passes `not_in` and nothing else, as in Kubernetes' selectors.
    Source: llm-d's `by-label` and `by-label-selector` filters.
    """

    name: ClassVar[str] = "label"

    label: str = parameter("")
    equals: str = parameter("")
    in_: tuple[str, ...] = texts()
    not_in: tuple[str, ...] = texts()
    required: bool = True

    def __post_init__(self) -> None:
        if not self.label:
            raise ValueError("label is missing: which label of the pods is meant?")
        if [bool(self.equals), bool(self.in_), bool(self.not_in)].count(True) != 1:
            raise ValueError("needs exactly one of equals (a text), in and not_in (lists of them)")

    def passes(self, request: RequestInfo, snapshot: LoadSnapshot, /) -> Sequence[int]:
        """Positions of the pods whose label fits."""
        label = self.label
        if self.not_in:
            refused = self.not_in
            return [at for at, (pod, _) in enumerate(snapshot.candidates) if pod.labels.get(label) not in refused]
        wanted = self.in_ or (self.equals,)
        return [at for at, (pod, _) in enumerate(snapshot.candidates) if pod.labels.get(label) in wanted]
