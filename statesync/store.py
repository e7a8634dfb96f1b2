"""What a store of shared state can do, and how a URL names one. No store lives here.

Nothing on a request's way awaits a store: `announce` and `placed` only note what to send, and what other replicas
send arrives through the `StateListener`. So a store that is slow, hung or gone makes the view older, never wrong.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

from schedulers.types import PodId
from statesync.types import InflightNumbers


class PolicyRecord(NamedTuple):
    """A pool's policy as agreed by all replicas."""

    name: str
    params: Mapping[str, object]
    generation: int
    """Starts at 1, grows by one with every change."""


class ReplicaInfo(NamedTuple):
    """A live replica as another one sees it."""

    id: str
    age_s: float
    """Since it was last heard, on the reader's clock."""


class StateListener(Protocol):
    """Who hears what other replicas say. Called on the event loop; must not block."""

    def replica_inflight(self, replica: str, numbers: Mapping[PodId, InflightNumbers], /) -> None:
        """Absolute numbers of another replica; a pod that is absent did not change."""

    def replica_gone(self, replica: str, /) -> None:
        """Its lease lapsed or was given back: exactly its share goes."""

    def placed_elsewhere(self, pod: PodId, blocks: Sequence[int], /) -> None:
        """Another replica sent a prompt with these chained block hashes to `pod`."""

    def policy_changed(self, pool: str, record: PolicyRecord, /) -> None:
        """A pool's policy has a new generation."""


class StateStore(Protocol):
    """Shared state behind one URL. One contract suite runs over every implementation."""

    @property
    def shared(self) -> bool:
        """Whether another replica may hear; where not, nothing need be announced."""
        ...

    async def start(self, replica: str, listener: StateListener, /) -> None:
        """Take a lease as `replica`, then tell the listener all that the others know. Returns when warm."""

    async def aclose(self) -> None:
        """Send what is pending and give the lease back. Safe to call twice."""

    def announce(self, pod: PodId, numbers: InflightNumbers, /) -> None:
        """Note this replica's absolute numbers for `pod`; coalesced, sent soon. Never blocks, never fails."""

    def placed(self, pod: PodId, blocks: Sequence[int], /) -> None:
        """Note that a prompt with these block hashes went to `pod`. Never blocks, never fails."""

    async def policy(self, pool: str, /) -> PolicyRecord | None:
        """The pool's record, or None where none was ever set. Raises StoreUnavailable."""

    async def policy_history(self, pool: str, /) -> Sequence[PolicyRecord]:
        """The pool's last records, newest first, for a rollback; empty where none was set. Raises StoreUnavailable."""

    async def put_policy(
        self, pool: str, name: str, params: Mapping[str, object], /, *, if_generation: int | None
    ) -> PolicyRecord:
        """Compare-and-set; `if_generation=None` overwrites, 0 means 'only if none was ever set'.

        Raises StaleGeneration, StoreUnavailable.
        """

    def replicas(self) -> Sequence[ReplicaInfo]:
        """Live replicas, this one first."""

    def age_s(self) -> float:
        """How old the shared part of the view may be, in seconds; 0.0 where nothing is shared."""
