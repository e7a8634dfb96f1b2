"""The live policy of each pool, and how it is replaced: build fully, agree through the store, swap one reference.

The data plane reads `live` at each request and keeps nothing, so a swap takes effect with the next pick. A failure (an
unknown name, bad parameters, a stale generation, a store that does not answer) changes nothing. Every write is
compare-and-set against the generation it was derived from, so two concurrent writes never mix.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Final

from router.policy import transitions
from router.policy.model import (
    BuiltPolicy,
    ChangeOptions,
    Create,
    LivePolicies,
    LivePolicy,
    MakeTrial,
    Summarise,
    build,
    expect,
    summary,
)
from router.policy.transitions import Change, LocalRefused, NotPromoted
from router.settings import PolicySpec
from schedulers.errors import SchedulerError
from schedulers.protocols import Scheduler
from statesync.errors import StaleGeneration, StoreUnavailable, UnknownPool
from statesync.store.lineage import digest
from statesync.store.policy_record import Canary, PolicyChoice
from statesync.store.protocol import POLICY_HISTORY, PolicyRecord, StateStore
from statesync.tasks import spawn

_log = logging.getLogger("turnout.policy")

LOOK_S: Final = 0.5
"""Seconds between two reads of the shared state while a pool has a policy of this replica's own."""

_TRIES: Final = 20
"""How often a change is derived again when changes on other replicas come first."""

_DEFAULTS: Final = ChangeOptions()


def _no_trial(*_: object) -> None:
    """Nothing runs beside a policy."""


class PolicyController:
    """Holds each pool's schedulers and the record they were built from."""

    def __init__(
        self,
        store: StateStore,
        configured: Mapping[str, PolicySpec],
        create: Create,
        make_trial: MakeTrial = _no_trial,
        pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
        summarise: Summarise = lambda *_: "",
        wall: Callable[[], float] = lambda: 0.0,
    ) -> None:
        """Builds the configured policies, as generation 0. Raises SchedulerError."""
        self._store = store
        self._create = create
        self._make_trial = make_trial
        self._pause = pause
        self._summarise = summarise
        self._wall = wall
        self._live = LivePolicies(
            (pool, LivePolicy(create(spec.name, spec.params), PolicyRecord(spec.name, dict(spec.params), 0)))
            for pool, spec in configured.items()
        )
        self._own: Mapping[str, PolicyRecord] = self.records
        """Those of the settings."""
        self._seen: dict[str, list[PolicyRecord]] = {pool: [record] for pool, record in self._own.items()}
        """Newest first: the records that a rollback can use while the shared state is away."""
        self._waiting: dict[str, tuple[PolicyRecord, str]] = {}
        """Newer records that cannot be built here, and why."""
        self._turns = {pool: asyncio.Lock() for pool in configured}
        """One change of a pool at a time on this replica: they would only make each other stale."""
        self._looks: dict[str, asyncio.Task[None]] = {}
        """By pool with a policy of this replica's own: the task that reads the shared state."""

    # The live policies

    def live(self, pool: str) -> LivePolicy:
        """The pool's live policy. Raises KeyError for a pool that is not configured."""
        return self._live[pool]

    @property
    def live_policies(self) -> LivePolicies:
        """What serves each configured pool now. The mapping stays the same object and follows every change."""
        return self._live

    def status(self, pool: str) -> LivePolicy:
        """The pool's live policy. Raises UnknownPool."""
        return self._known(pool)

    def record(self, pool: str) -> PolicyRecord:
        """The record that `live` was built from; generation 0 is that of the settings. Raises UnknownPool."""
        return self._known(pool).record

    @property
    def records(self) -> Mapping[str, PolicyRecord]:
        """Every pool's record."""
        return {pool: live.record for pool, live in self._live.items()}

    @property
    def mentioned(self) -> set[str]:
        """Names of policies that serve, are tried, are waited for, or can be rolled back to."""
        records = [record for seen in self._seen.values() for record in seen]
        records += [record for record, _ in self._waiting.values()]
        beside = [record.shadow.name for record in records if record.shadow is not None]
        beside += [record.canary.choice.name for record in records if record.canary is not None]
        return {record.name for record in records}.union(beside)

    def waits_for(self, pool: str) -> str:
        """Why a newer record is not followed yet; empty if none is waiting."""
        waiting = self._waiting.get(pool)
        return f"generation {waiting[0].generation}: {waiting[1]}" if waiting is not None else ""

    async def history(self, pool: str) -> Sequence[PolicyRecord]:
        """The last records, newest first. Generation 0, that of the settings, is the last unless older ones were
        dropped.

        Raises UnknownPool, StoreUnavailable.
        """
        self._known(pool)
        records = list(await self._store.policy_history(pool))
        if not records or records[-1].generation == 1:
            records.append(self._own[pool])
        return records

    # Changes. Each raises UnknownPool, SchedulerError or ChangeRefused before anything has changed, StaleGeneration
    # when `how.if_generation` is not the present one, StoreUnavailable when the store does not answer.

    async def set(
        self, pool: str, name: str, params: Mapping[str, object], how: ChangeOptions = _DEFAULTS
    ) -> PolicyRecord:
        """Replace the pool's policy on every replica; a shadow stays, a canary ends."""
        return await self._change(pool, transitions.policy_set(name, params), how)

    async def set_shadow(self, pool: str, shadow: PolicyChoice | None, how: ChangeOptions = _DEFAULTS) -> PolicyRecord:
        """Run another policy in the shadow of this one, or none."""
        if shadow is not None and how.local:
            raise LocalRefused("a shadow is begun on all replicas or on none; wait for the shared state")
        return await self._change(pool, transitions.shadow_set(shadow), how)

    async def set_canary(self, pool: str, canary: Canary | None, how: ChangeOptions = _DEFAULTS) -> PolicyRecord:
        """Let a candidate decide a share of the requests, or end that."""
        if canary is not None and how.local:
            raise LocalRefused("a canary is begun on all replicas or on none; wait for the shared state")
        return await self._change(pool, transitions.canary_set(canary), how)

    async def cancel(self, pool: str, how: ChangeOptions = _DEFAULTS) -> PolicyRecord:
        """End shadow and canary."""
        return await self._change(pool, transitions.cancelled, how)

    async def promote(self, pool: str, how: ChangeOptions = _DEFAULTS, *, force: bool = False) -> PolicyRecord:
        """Make the candidate the policy. Raises NotPromoted where its trial speaks against it, unless `force`."""
        live = self._known(pool)
        if live.trial is not None and live.record.canary is not None and not force:
            if objection := live.trial.objection():
                raise NotPromoted(objection)
            # The objection was about the candidate on trial, not about one that was set a moment ago.
            if how.if_generation is None:
                how = how._replace(if_generation=live.record.generation, if_digest=digest(live.record))
        return await self._change(pool, transitions.promoted, how)

    async def rollback(self, pool: str, how: ChangeOptions = _DEFAULTS, *, to: int | None = None) -> PolicyRecord:
        """Back to the policy before this one, or to that of generation `to`; see `transitions.rolled_back`."""
        return await self._change(pool, transitions.rolled_back(to), how)

    async def check(self, pool: str, name: str, params: Mapping[str, object]) -> PolicyRecord:
        """The record that `set` would put, with the present generation. Raises as `set` does; changes nothing."""
        return await self.set(pool, name, params, ChangeOptions(dry_run=True))

    def policy_changed(self, pool: str, record: PolicyRecord) -> None:
        """Follow what was set on another replica, or before this one started, whatever its generation: the store
        decides which record is in force, and after a loss that may be an earlier one.

        A record that cannot be built here is logged once and kept for `retry`; until then the old policy stays.
        """
        live, waiting = self._live.get(pool), self._waiting.get(pool)
        if live is not None and (waiting is None or digest(waiting[0]) != digest(record)):
            self._follow(pool, record)

    def retry(self) -> None:
        """Build the waiting records again: new policies have been registered."""
        for pool, (record, _) in list(self._waiting.items()):
            self._follow(pool, record)

    def take_out(self, pool: str, scheduler: Scheduler, stand_in: Scheduler, why: str) -> None:
        """Let `stand_in` decide in place of this scheduler object, if it is live, until there is a new record."""
        live = self._live.get(pool)
        if live is not None and live.scheduler is scheduler:
            self._live[pool] = live._replace(scheduler=stand_in, taken_out=why)

    def stop(self) -> None:
        """Cancel the tasks that read the shared state."""
        for look in self._looks.values():
            look.cancel()

    # Steps of a change

    def _known(self, pool: str) -> LivePolicy:
        live = self._live.get(pool)
        if live is None:
            raise UnknownPool(f"no pool named {pool!r}")
        return live

    async def _change(self, pool: str, change: Change, how: ChangeOptions) -> PolicyRecord:
        self._known(pool)
        async with self._turns[pool]:
            for _ in range(_TRIES):
                try:
                    history = await self.history(pool)
                except StoreUnavailable as error:
                    if how.local:
                        return self._change_here(pool, change, how)
                    raise StoreUnavailable(_REFUSED.format(error)) from error
                if how.local:
                    raise LocalRefused("the shared state answers, so a change is for all replicas: leave out `local`")
                expect(pool, history[0], how)
                try:
                    return await self._put(pool, change, history, how)
                except StaleGeneration:
                    continue  # another was first: what that means for this change is seen in its record
        raise StaleGeneration(f"pool {pool!r}: others changed it {_TRIES} times meanwhile; look at it and try again")

    async def _put(
        self, pool: str, change: Change, history: Sequence[PolicyRecord], how: ChangeOptions
    ) -> PolicyRecord:
        present = history[0]
        wanted = change(present, history)
        if wanted is present:
            return present
        note = "; ".join(filter(None, (how.note or wanted.note, self._found(pool, present, wanted))))
        wanted = wanted._replace(note=note)
        built = build(self._create, wanted)
        if how.dry_run:
            return wanted
        try:
            made = wanted._replace(at=round(self._wall(), 3), by=how.by)
            record = await self._store.put_policy(pool, made, if_generation=present.generation)
        except StoreUnavailable as error:
            raise StoreUnavailable(_UNCERTAIN.format(error)) from error
        self._swap(pool, record, built)
        return record

    def _found(self, pool: str, present: PolicyRecord, wanted: PolicyRecord) -> str:
        """What was found of a canary that the change ends, for the history."""
        canary = wanted.canary
        ends = present.canary is not None and (canary is None or canary.choice != present.canary.choice)
        return self._summarise(pool, present) if ends else ""

    def _change_here(self, pool: str, change: Change, how: ChangeOptions) -> PolicyRecord:
        """Change this replica alone: no shadow, no canary, nothing stored."""
        shared = self._live[pool].record
        expect(pool, shared, how)
        # Counted as the next generation, so that a rollback of a local change leads to the shared record.
        present = shared._replace(generation=shared.generation + 1)
        wanted = change(present, self._seen[pool])
        if wanted is present:
            return shared
        note = how.note or wanted.note
        wanted = wanted._replace(generation=shared.generation, shadow=None, canary=None, note=note)
        built = build(self._create, wanted)
        if not how.dry_run:
            self._replace(pool, LivePolicy(built.scheduler, wanted, None, True))
            _log.warning(
                "pool %s has policy %s on this replica alone, until the shared state is back", pool, wanted.name
            )
            if pool not in self._looks:
                self._looks[pool] = spawn(self._until_shared(pool), f"shared policy of {pool}")
        return wanted

    async def _until_shared(self, pool: str) -> None:
        """Replace this replica's own policy by the shared one as soon as that can be read."""
        try:
            while self._live[pool].local:
                await self._pause(LOOK_S)
                try:
                    history = await self.history(pool)
                except StoreUnavailable:
                    continue
                if self._live[pool].local:
                    self._follow(pool, history[0])
                    return
        finally:
            del self._looks[pool]

    def _follow(self, pool: str, record: PolicyRecord) -> None:
        if not self._live[pool].local and digest(self._live[pool].record) == digest(record):
            self._waiting.pop(pool, None)
            return
        try:
            built = build(self._create, record)
        except SchedulerError as error:
            live, waiting = self._live[pool], self._waiting.get(pool)
            self._waiting[pool] = record, str(error)
            if waiting is None or digest(waiting[0]) != digest(record):
                _log.error("pool %s keeps policy %s: %s", pool, live.record.name, self.waits_for(pool))
            return
        self._swap(pool, record, built)

    def _swap(self, pool: str, record: PolicyRecord, built: BuiltPolicy) -> None:
        self._waiting.pop(pool, None)
        if not self._live[pool].local and digest(self._live[pool].record) == digest(record):
            return  # the store was first with it
        trial = self._make_trial(pool, record, built.scheduler, built.shadow, built.candidate)
        before = [each for each in self._seen[pool] if each.generation < record.generation]
        self._seen[pool] = [record, *before][:POLICY_HISTORY]
        self._replace(pool, LivePolicy(built.scheduler, record, trial))
        _log.info("pool %s now has %s", pool, summary(record))

    def _replace(self, pool: str, new: LivePolicy) -> None:
        ended = self._live[pool].trial
        self._live[pool] = new
        if ended is not None and ended is not new.trial:
            ended.end(new.record.note)


_REFUSED: Final = (
    "the shared state does not answer ({}), so nothing was changed on any replica: try again when it is back, "
    "or change this replica alone with ?local=true (--local-only)"
)
_UNCERTAIN: Final = (
    "the shared state did not confirm the change ({}): whether it was made will be seen when it is back, "
    "on all replicas alike; this one keeps what it has until then"
)
