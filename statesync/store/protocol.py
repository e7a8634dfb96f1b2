"""What a store of shared state can do, and how a URL names one. No store lives here.

Nothing on a request's way awaits a store: `announce` and `placed` only note what to send, and what other replicas
send arrives through the `StateListener`. So a store that is slow, hung or gone makes the view older, never wrong.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final, NamedTuple, Protocol

from schedulers.types import PodId
from statesync.store.policy_record import Canary, PolicyChoice
from statesync.types import EngineReport, InflightNumbers, PrefixPage

POLICY_HISTORY: Final = 16
"""Generations of a pool's policy that are kept."""


class SyncConfig(NamedTuple):
    """How replicas keep in step; the defaults are the settings'. Stores that need none of it ignore it."""

    interval_s: float = 0.002
    """Changes within this time travel together; the first after a quiet moment goes at once. What only makes a pod look
    idler waits for a dispatch to travel with, up to four times as long. While no other replica lives it is 0.05 at
    least."""
    lease_s: float = 5.0
    """A replica not heard for so long is gone, and its share with it. Renewed five times in that time."""
    timeout_s: float = 1.0
    """For connecting and for each reply; then the link is broken off and made anew, with backoff."""
    namespace: str = "turnout"
    """Replicas that share it see each other. It is the hash tag of every key."""
    checkpoint_s: float = 30.0
    """Between two checkpoints of the prefix index."""


class PolicyRecord(NamedTuple):
    """A pool's policy as agreed by all replicas."""

    name: str
    params: Mapping[str, object]
    generation: int
    """Starts at 1, grows by one with every change."""
    shadow: PolicyChoice | None = None
    """Sees the same requests and decides none."""
    canary: Canary | None = None
    """Decides a share of them."""
    note: str = ""
    """Why it was changed, where a person or a guard said so."""
    restores: int | None = None
    """The generation whose policy a rollback brought back; changes of shadow and canary keep it."""


class ReplicaInfo(NamedTuple):
    """A live replica as another one sees it."""

    id: str
    age_s: float
    """Since it was last heard, on the reader's clock."""


class StateListener(Protocol):
    """Who hears what other replicas say. Called on the event loop; must not block."""

    def replica_inflight(self, replica: str, numbers: Mapping[PodId, InflightNumbers], full: bool, /) -> None:
        """Absolute numbers of another replica: all it has if `full`, else those that changed."""

    def replica_gone(self, replica: str, /) -> None:
        """Its lease lapsed or was given back: exactly its share goes."""

    def placed_elsewhere(self, pod: PodId, blocks: Sequence[int], /) -> None:
        """Another replica sent a prompt with these chained block hashes to `pod`."""

    def forgotten_elsewhere(self, pod: PodId, /) -> None:
        """The replica that scrapes `pod` saw its engine restart: it holds no prefix any more."""

    def reported_elsewhere(self, pod: PodId, report: EngineReport, age_s: float, /) -> None:
        """Another replica scraped `pod`, `age_s` ago."""

    def policy_changed(self, pool: str, record: PolicyRecord, /) -> None:
        """A pool's policy has a new generation."""

    def checkpoint(self) -> Iterable[PrefixPage]:
        """All that this replica's prefix index holds, page by page. The index may change between two pages."""

    def restored(self, page: PrefixPage, /) -> None:
        """A page of another replica's checkpoint, at warm start. Pages of a pod come oldest first."""


class StoreHealth(NamedTuple):
    """How the link to the others does, for metrics and /admin/state. Counters start with the process."""

    connected: bool = True
    warm: bool = True
    """All that the others knew when this replica started has been read."""
    round_trips: int = 0
    """Counter: exchanges with the server; what travels together is one."""
    bytes_sent: int = 0
    bytes_received: int = 0
    reconnects: int = 0
    lease_losses: int = 0
    """Counter: times the lease was gone when it should have been renewed (a pause, an empty server)."""
    placements_dropped: int = 0
    """Counter: placements that no other replica will hear of, because the server was away for too long."""
    unreadable: int = 0
    """Counter: messages of others that could not be read at all."""
    error: str = ""
    """Why it is not connected."""


class StateStore(Protocol):
    """Shared state behind one URL. One contract suite runs over every implementation."""

    @property
    def shared(self) -> bool:
        """Whether another replica may hear; where not, nothing need be announced."""
        ...

    async def start(self, replica: str, listener: StateListener, /) -> None:
        """Take a lease as `replica`, then tell the listener all that the others know. Returns when warm.

        A server that is away is waited for: give it a timeout. If the wait is cancelled, the store goes on trying in
        the background until `aclose`. Raises StateError if a live replica has that name.
        """

    async def aclose(self) -> None:
        """Send what is pending and give the lease back. Safe to call twice."""

    def announce(self, pod: PodId, numbers: InflightNumbers, /) -> None:
        """Note this replica's absolute numbers for `pod`; coalesced, sent soon. Never blocks, never fails."""

    def placed(self, pod: PodId, blocks: Sequence[int], /) -> None:
        """Note that a prompt with these block hashes went to `pod`. Never blocks, never fails."""

    def forgot(self, pod: PodId, /) -> None:
        """Note that `pod`'s engine restarted and holds nothing. Said by the replica that is `elected` for it."""

    def report(self, pod: PodId, report: EngineReport, /) -> None:
        """Note an engine's own report for the replicas that did not scrape it. Never blocks, never fails."""

    def elected(self, pod: PodId, /) -> bool:
        """Whether it is for this replica to scrape `pod` now. True where nobody else can be heard."""
        ...

    async def policy(self, pool: str, /) -> PolicyRecord | None:
        """The pool's record, or None where none was ever set. Raises StoreUnavailable."""

    async def policy_history(self, pool: str, /) -> Sequence[PolicyRecord]:
        """The pool's last records, newest first, for a rollback; empty where none was set. Raises StoreUnavailable."""

    async def put_policy(
        self,
        pool: str,
        name: str,
        params: Mapping[str, object],
        /,
        *,
        if_generation: int | None,
        shadow: PolicyChoice | None = None,
        canary: Canary | None = None,
        note: str = "",
        restores: int | None = None,
    ) -> PolicyRecord:
        """Compare-and-set of the whole record; what is not given is not in the new one.

        `if_generation=None` overwrites, 0 means 'only if none was ever set'. Raises StaleGeneration, StoreUnavailable.
        """

    async def share_trial(self, pool: str, generation: int, teller: str, figures: bytes, /) -> Mapping[str, bytes]:
        """Tell this replica's figures of what `pool` tries in `generation`, absolute ones, for those of all tellers.

        `teller` names this process among all that ever run: what a dead one told stays, for it happened.
        Raises StoreUnavailable.
        """
        ...

    def replicas(self) -> Sequence[ReplicaInfo]:
        """Live replicas, this one first."""

    def age_s(self) -> float:
        """How old the shared part of the view is, in seconds; 0.0 where nothing is shared.

        While the link does well: how long a change takes to be heard, as measured by hearing oneself. While it does
        not: the time since it last did.
        """
        ...

    def health(self) -> StoreHealth:
        """How the link does."""
        ...
