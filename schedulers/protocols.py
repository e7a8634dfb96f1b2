"""The protocols of a policy and of the parts of a composed one. Knows no policy and no gateway."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from schedulers.types import Decision, LoadSnapshot, Rejection, RequestInfo
from schedulers.weighing import Scores, Weighed


@runtime_checkable
class Scheduler(Protocol):
    """A policy: a pure function from (request, snapshot) to a pod of that snapshot.

    Synchronous; no I/O, no clock, no randomness but `request.entropy`, no state between calls. The snapshot is never
    empty and holds only routable pods; a pod in `request.tried` must not be picked.
    """

    @property
    def name(self) -> str:
        """The policy's name: module name, config value and metric label alike."""
        ...

    def pick(self, request: RequestInfo, snapshot: LoadSnapshot, /) -> Decision | Rejection:
        """Choose a pod for `request`, or reject it with a reason."""
        ...


class Filter(Protocol):
    """Selects the candidates that may be picked. Pure, as a policy is."""

    @property
    def name(self) -> str:
        """Its name in a profile's parameters."""
        ...

    @property
    def required(self) -> bool:
        """Whether a request is rejected if no candidate passes; otherwise the filter is then ignored."""
        ...

    def passes(self, request: RequestInfo, snapshot: LoadSnapshot, /) -> Sequence[int]:
        """Positions of the candidates that pass, ascending."""
        ...


class Scorer(Protocol):
    """Rates the candidates. Pure, as a policy is."""

    @property
    def name(self) -> str:
        """Its name in a profile's parameters."""
        ...

    @property
    def needs_all(self) -> bool:
        """Whether any pod may be the best one, so that a few random candidates do not suffice."""
        ...

    def score(self, request: RequestInfo, snapshot: LoadSnapshot, /) -> Scores:
        """From 1, best, to 0, worst."""
        ...


class Picker(Protocol):
    """Takes a candidate by the scores. Pure; its randomness is the request's entropy."""

    @property
    def name(self) -> str:
        """Its name in a profile's parameters, and the reason in its decisions."""
        ...

    def pick(self, scores: Weighed, entropy: int, /) -> int:
        """The position of the candidate it takes; there is at least one."""
        ...
