"""The protocol of a store of shared state, and of its listener. No store lives here.

No request awaits a store: `announce` and `placed` only note changes to send, and other replicas' changes arrive at the
`StateListener`. So a store that is slow, hung or gone makes the view older, never wrong.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final, NamedTuple, Protocol

from schedulers.types import PodId
from statesync.discovery.changes import PodChange
from statesync.shares import ShareAnswer, ShareAsk
from statesync.store.policy_record import Canary, PolicyChoice
from statesync.types import EngineReport, InflightNumbers, KnownPod, PrefixPage

POLICY_HISTORY: Final = 16
"""Generations of a pool's policy that a store keeps."""


class PolicyRecord(NamedTuple):
    """A pool's policy, the same on all replicas. The router keeps API keys as such records, too, under names that no
    pool has."""

    name: str
    params: Mapping[str, object]
    generation: int = 0
    """Starts at 1, grows by one with every change; the store gives it."""
    shadow: PolicyChoice | None = None
    """A policy that sees the same requests and decides none."""
    canary: Canary | None = None
    """A policy that decides a share of them."""
    note: str = ""
    """The reason for the change, if a person or a guard gave one."""
    restores: int | None = None
    """The generation that a rollback restored; changes of shadow and canary keep it."""
    at: float = 0.0
    """Unix time of the change, by the clock of the replica that made it; 0.0 where an older replica did."""
    by: str = ""
    """The person or the guard that made it, if that is known."""


class ReplicaInfo(NamedTuple):
    """A live replica, as seen by another."""

    id: str
    age_s: float
    """Seconds since its last message, on the reader's clock."""


class StateListener(Protocol):
    """Receives other replicas' changes. Called on the event loop; must not block."""

    def replica_inflight(self, replica: str, numbers: Mapping[PodId, InflightNumbers], full: bool, /) -> None:
        """Absolute numbers of another replica: all it has if `full`, else those that changed."""

    def replica_gone(self, replica: str, /) -> None:
        """The replica's lease lapsed or was given back: its numbers do not count any more."""

    def placed_elsewhere(self, pod: PodId, blocks: Sequence[int], /) -> None:
        """Another replica sent a prompt with these chained block hashes to `pod`."""

    def forgotten_elsewhere(self, pod: PodId, /) -> None:
        """The replica that scrapes `pod` saw its engine restart: the pod holds no prefix any more."""

    def reported_elsewhere(self, pod: PodId, report: EngineReport, age_s: float, /) -> None:
        """Another replica scraped `pod`, `age_s` ago."""

    def models_changed_elsewhere(self, pod: PodId, /) -> None:
        """Another replica found that `pod` lists other models now, or refuses one that it lists."""

    def served_elsewhere(self, replica: str, served: Mapping[str, int], /) -> None:
        """Another replica's counts by name, those that changed; they only grow."""

    def pods_elsewhere(self, known: Mapping[PodId, KnownPod], /) -> None:
        """What the replicas that were there before know of their pods, when this one joins. A pod is well if the probes
        of any of them say so."""

    def policy_changed(self, pool: str, record: PolicyRecord, /) -> None:
        """A pool's policy has a new generation, or what else has such a record."""

    def checkpoint(self) -> Iterable[PrefixPage]:
        """This replica's prefix index, page by page. The index may change between two pages."""

    def restored(self, page: PrefixPage, /) -> None:
        """Take a page of a checkpoint, when this replica joins. Pages of a pod come oldest first."""


class StoreHealth(NamedTuple):
    """The state of the link to the others, for metrics and /admin/state. Counters start with the process."""

    connected: bool = True
    warm: bool = True
    """Whether the others' state has been read since this replica started."""
    round_trips: int = 0
    """Counter: exchanges with the server; commands sent together are one."""
    bytes_sent: int = 0
    bytes_received: int = 0
    reconnects: int = 0
    lease_losses: int = 0
    """Counter: times the lease was gone at a renewal (this process stood still, the server was emptied)."""
    placements_dropped: int = 0
    """Counter: placements dropped unsent, because the server was unreachable for too long."""
    policies_put_back: int = 0
    """Counter: times that this replica put a pool's records back which the server had lost."""
    policies_given_up: int = 0
    """Counter: records of this replica that the server's own ones have no trace of, and that it no longer follows."""
    unreadable: int = 0
    """Counter: messages of other replicas that could not be decoded."""
    strangers: int = 0
    """Live replicas of another fleet: they share the namespace and no pod, or an equally named pool of other pods."""
    error: str = ""
    """The reason while it is not connected."""


class StateStore(Protocol):
    """Shared state behind one URL. One contract suite runs over every implementation."""

    @property
    def shared(self) -> bool:
        """Whether there may be other replicas; if not, nothing has to be announced."""
        ...

    async def start(self, replica: str, listener: StateListener, /) -> None:
        """Take a lease as `replica`, then pass the others' state to the listener. Returns when warm.

        It waits for an unreachable server without a limit: use a timeout. If the wait is cancelled, the store goes on
        trying in the background until `aclose`. Raises StateError if a live replica has that name.
        """

    async def aclose(self) -> None:
        """Send pending changes and give the lease back. Idempotent."""

    def announce(self, pod: PodId, numbers: InflightNumbers, /) -> None:
        """Note this replica's absolute numbers for `pod`; coalesced, sent soon. Never blocks, never fails."""

    def placed(self, pod: PodId, blocks: Sequence[int], /) -> None:
        """Note that a prompt with these block hashes went to `pod`. Never blocks, never fails."""

    def forgot(self, pod: PodId, /) -> None:
        """Note that `pod`'s engine restarted and holds nothing. Called by the replica that is `elected` for the pod."""

    def own(self, key: bytes, pod: PodId, /) -> None:
        """Note that the state behind an id is on `pod`. Never blocks, never fails; lost if there is no link."""

    async def owner(self, key: bytes, /) -> PodId | None:
        """The pod that any replica noted for the id; None if none did, or it is forgotten. Raises StoreUnavailable."""

    def report(self, pod: PodId, report: EngineReport, /) -> None:
        """Note an engine's own report for the replicas that did not scrape it. Never blocks, never fails."""

    def models_changed(self, pod: PodId, /) -> None:
        """Note that `pod` lists other models now, so that the others read its list. Never blocks, never fails."""

    def served(self, name: str, count: int, /) -> None:
        """Note how much this replica has served under a name, in all. Never blocks, never fails. A replica that starts
        learns of it with the next change."""

    def change_pods(self, pool: str, change: PodChange, /) -> None:
        """Note which pods this replica has: it is elected among the replicas that have the pod. Never blocks."""

    def probed(self, pod: PodId, well: bool, /) -> None:
        """Note whether a pod of this replica is well, as its probes say: for replicas that start. Never blocks."""

    def listed(self, pod: PodId, page: bytes, /) -> None:
        """Note which models a pod of this replica lists, as a page, empty for a pod without a list: for replicas that
        start. Equal lists are to be equal pages. Never blocks."""

    def elected(self, pod: PodId, /) -> bool:
        """Whether this replica is the one to scrape `pod` now. True if it knows no other live replica that has it."""
        ...

    async def policy(self, pool: str, /) -> PolicyRecord | None:
        """The pool's record, or None if none was ever set. Raises StoreUnavailable."""

    async def policy_history(self, pool: str, /) -> Sequence[PolicyRecord]:
        """The pool's last records, newest first, for a rollback; empty if none was set. Raises StoreUnavailable."""

    async def put_policy(self, pool: str, wanted: PolicyRecord, /, *, if_generation: int | None) -> PolicyRecord:
        """Compare-and-set of the whole record; returns it with the generation that it got, in place of its own.

        `if_generation=None` overwrites, 0 means 'only if none was ever set'. Raises StaleGeneration, StoreUnavailable.
        """

    async def share_trial(self, pool: str, generation: int, process: str, figures: bytes, /) -> Mapping[str, bytes]:
        """Store this process's absolute figures of `pool`'s trial in `generation`; returns those of all processes.

        `process` is a unique name: the figures of a process that ended stay and count. Raises StoreUnavailable.
        """
        ...

    async def share_limits(self, asks: Sequence[ShareAsk], /) -> ShareAnswer:
        """Exchange this replica's shares of limits; see `ShareLedger`. A share counts while its replica is live.

        Called in the background only. Raises StoreUnavailable; then it may have been done or not.
        """
        ...

    def replicas(self) -> Sequence[ReplicaInfo]:
        """Live replicas, this one first."""

    def age_s(self) -> float:
        """Age of the shared part of the view, in seconds; 0.0 if nothing is shared.

        While the link works: the time from a change to its receipt, measured by this replica's own echoes. While it
        does not: the time since it last did.
        """
        ...

    def health(self) -> StoreHealth:
        """The state of the link, and its counters."""
        ...
