"""What a policy is. This file knows no policy and no gateway."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from schedulers.types import Decision, LoadSnapshot, Rejection, RequestInfo


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
