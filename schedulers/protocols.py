"""What a policy is, and what a composed one is made of. This file knows no policy and no gateway."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from schedulers.types import Decision, LoadSnapshot, Rejection, RequestInfo
from schedulers.weighing import Scores, Weighed


@runtime_checkable
class Scheduler(Protocol):
    """A policy: a pure function from (request, snapshot) to a pod of that snapshot.

    Synchronous; no I/O, no clock, no dice of its own, no state between calls. The snapshot is never empty and
    holds only routable pods; a pod in `request.tried` must not be picked.
    """

    @property
    def name(self) -> str:
        """The policy's name: module name, config value and metric label alike."""
        ...

    def pick(self, request: RequestInfo, snapshot: LoadSnapshot, /) -> Decision | Rejection:
        """Choose a pod for `request`, or say why none will do."""
        ...


class Filter(Protocol):
    """Says which candidates may be picked. Pure, as a policy is."""

    @property
    def name(self) -> str:
        """Its name in a profile's parameters."""
        ...

    @property
    def required(self) -> bool:
        """Whether nobody is picked where nobody passes; else the filter is passed over."""
        ...

    def passes(self, request: RequestInfo, snapshot: LoadSnapshot, /) -> Sequence[int]:
        """Where those stand that may, ascending."""
        ...


class Scorer(Protocol):
    """Says how much it would like each candidate to be picked. Pure, as a policy is."""

    @property
    def name(self) -> str:
        """Its name in a profile's parameters."""
        ...

    @property
    def needs_all(self) -> bool:
        """Whether those it would like best can be anywhere, so that a few drawn candidates would not do."""
        ...

    def score(self, request: RequestInfo, snapshot: LoadSnapshot, /) -> Scores:
        """1 is where it would go, 0 where it would not."""
        ...


class Picker(Protocol):
    """Takes one by the scores. Pure; its dice are the request's."""

    @property
    def name(self) -> str:
        """Its name in a profile's parameters, and the reason in its decisions."""
        ...

    def pick(self, scores: Weighed, entropy: int, /) -> int:
        """Where the one it takes stands; there is at least one."""
        ...
