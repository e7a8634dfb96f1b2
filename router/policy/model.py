"""What a policy controller holds and needs, and how a record is built. No request waits for a change here."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple, Protocol

from schedulers.errors import InvalidParams, SchedulerError
from schedulers.named import reads_sessions
from schedulers.protocols import Scheduler
from statesync.errors import StaleGeneration
from statesync.store.lineage import digest
from statesync.store.protocol import PolicyRecord

Create = Callable[[str, Mapping[str, object]], Scheduler]
"""Builds a policy by name and parameters; raises SchedulerError. `schedulers.registry.create` is the real one."""


class TrialView(Protocol):
    """What runs beside a pool's policy, as a controller sees it."""

    def objection(self) -> str:
        """Why the candidate should not be promoted; empty if nothing speaks against it."""
        ...

    def end(self, note: str) -> None:
        """Another record is live; `note` is that record's."""


MakeTrial = Callable[[str, PolicyRecord, Scheduler, Scheduler | None, Scheduler | None], TrialView | None]
"""(pool, record, scheduler, shadow, candidate) -> what runs beside the policy."""


Summarise = Callable[[str, PolicyRecord], str]
"""(pool, record) -> what was found of the record's canary, for the history; empty if nothing."""


class LivePolicy(NamedTuple):
    """What serves a pool's requests, in one reference."""

    scheduler: Scheduler
    record: PolicyRecord
    """What it was built from; generation 0 is that of the settings."""
    trial: TrialView | None = None
    """What runs beside it."""
    local: bool = False
    """On this replica alone, while the shared state is away. `record` has the generation that it replaces."""
    taken_out: str = ""
    """Why `scheduler` is not the record's own; the next record ends that."""


class LivePolicies(dict[str, LivePolicy]):
    """Of all pools. `session_pools` follows every assignment, so that a request asks one set and no policy."""

    def __init__(self, first: Iterable[tuple[str, LivePolicy]]) -> None:
        super().__init__()
        self.session_pools: set[str] = set()
        """Pools whose requests have their session read: the policy, or what is tried beside it, may look at it."""
        self._always: frozenset[str] = frozenset()
        for pool, live in first:
            self[pool] = live

    def __setitem__(self, pool: str, live: LivePolicy) -> None:
        super().__setitem__(pool, live)
        if pool in self._always or live.trial is not None or reads_sessions(live.scheduler):
            self.session_pools.add(pool)
        else:
            self.session_pools.discard(pool)

    def read_sessions_of(self, pools: Iterable[str]) -> None:
        """Read the sessions of these pools' requests whatever their policies are."""
        self._always = frozenset(pools)
        self.session_pools |= self._always


class ChangeOptions(NamedTuple):
    """How a change is made."""

    if_generation: int | None = None
    """Change only this generation; None changes the present one."""
    note: str = ""
    """Why, for the history."""
    dry_run: bool = False
    """Build and check, change nothing."""
    local: bool = False
    """On this replica alone, as long as the shared state does not answer."""
    if_digest: str = ""
    """Beside `if_generation`: change only the record of this identity. After a loss another may have its generation."""
    by: str = ""
    """Who makes it, for the history."""


class Unbuildable(SchedulerError):
    """A part of a record that cannot be built here; the message begins with the part."""

    def __init__(self, place: str, why: SchedulerError) -> None:
        super().__init__(f"{place}: {why}")
        self.place = place
        """`shadow` or `canary`."""
        self.part = "params" if isinstance(why, InvalidParams) else "policy"
        """What is wrong with it."""


class BuiltPolicy(NamedTuple):
    """A record's schedulers."""

    scheduler: Scheduler
    shadow: Scheduler | None
    candidate: Scheduler | None


def build(create: Create, record: PolicyRecord) -> BuiltPolicy:
    """Every policy of the record. Raises SchedulerError for its policy, Unbuildable for its shadow or canary."""
    choices = {"shadow": record.shadow, "canary": record.canary.choice if record.canary is not None else None}
    scheduler = create(record.name, record.params)
    beside: dict[str, Scheduler | None] = {}
    for place, choice in choices.items():
        try:
            beside[place] = create(choice.name, choice.params) if choice is not None else None
        except SchedulerError as error:
            raise Unbuildable(place, error) from error
    return BuiltPolicy(scheduler, beside["shadow"], beside["canary"])


def expect(pool: str, present: PolicyRecord, how: ChangeOptions) -> None:
    """Raises StaleGeneration where the change is meant for another record than the present one."""
    if how.if_generation not in (None, present.generation):
        raise StaleGeneration(f"pool {pool!r} is at generation {present.generation}, not {how.if_generation}")
    if how.if_digest not in ("", digest(present)):
        raise StaleGeneration(
            f"generation {present.generation} of pool {pool!r} is the record {digest(present)}, not {how.if_digest}: "
            "the shared state lost that one, and others were set since; look at it and try again"
        )


def summary(record: PolicyRecord) -> str:
    """A record for the log."""
    said = f"policy {record.name}, generation {record.generation}"
    if record.shadow is not None:
        said += f", {record.shadow.name} in its shadow"
    if record.canary is not None:
        said += f", {record.canary.choice.name} for {record.canary.percent:g} %"
    return said + (f" ({record.note})" if record.note else "")
