"""Changes of a pool's policy as functions from the present record to the one to put. Pure.

A change that has nothing to do returns the record it was given. The store assigns generations: a record made here has
the generation it was derived from. This file builds no policy and reads no store.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from statesync.store.policy_record import Canary, PolicyChoice
from statesync.store.protocol import PolicyRecord

Change = Callable[[PolicyRecord, Sequence[PolicyRecord]], PolicyRecord]
"""(present record, history newest first, to generation 0 if it reaches that far) -> wanted record."""


class ChangeRefused(Exception):
    """The change is not possible now; the message says why and what can be done."""

    status = 409
    """The HTTP status of the answer."""
    code = "not_possible"
    param: str | None = None


class NoCanary(ChangeRefused):
    """No canary runs, so there is nothing to promote."""

    code = "no_canary"


class NothingBefore(ChangeRefused):
    """No earlier policy is known."""

    code = "nothing_before"


class NotInHistory(ChangeRefused):
    """The generation to roll back to is not kept, or never existed."""

    status = 422
    code = "generation_not_found"
    param = "to"


class NotPromoted(ChangeRefused):
    """The trial's figures speak against its candidate."""

    code = "not_promoted"


class LocalRefused(ChangeRefused):
    """The change cannot be made on one replica alone, or not now."""

    code = "not_local"
    param = "local"


def policy_set(name: str, params: Mapping[str, object]) -> Change:
    """Another policy. The shadow stays; a canary ends, because it was tried against the old policy."""
    return lambda present, _: PolicyRecord(name, params, present.generation, present.shadow)


def shadow_set(shadow: PolicyChoice | None) -> Change:
    """Another shadow, or none. A canary goes on."""

    def change(present: PolicyRecord, _: Sequence[PolicyRecord]) -> PolicyRecord:
        if shadow is None and present.shadow is None:
            return present
        return present._replace(shadow=shadow, canary=_going_on(present), note="")

    return change


def canary_set(canary: Canary | None) -> Change:
    """Another canary, or none. Another share or guard of the same candidate goes on: the sessions that it has stay, and
    each share is another stage of it."""

    def change(present: PolicyRecord, _: Sequence[PolicyRecord]) -> PolicyRecord:
        if canary is None:
            return present if present.canary is None else present._replace(canary=None, note="")
        return present._replace(canary=_staged(canary, present), note="")

    return change


def _staged(canary: Canary, present: PolicyRecord) -> Canary:
    before = _going_on(present)
    if before is None or (before.choice, before.switchback_s) != (canary.choice, canary.switchback_s):
        return canary
    if before.percent == canary.percent:
        return canary._replace(began=before.began, since=before.since, stage=before.stage)
    return canary._replace(began=before.began, since=present.generation + 1, stage=before.stage + 1)


def _going_on(present: PolicyRecord) -> Canary | None:
    """The canary as a later record has it: with the generations in which it began, which its first leaves out."""
    canary = present.canary
    if canary is None:
        return None
    return canary._replace(began=canary.began or present.generation, since=canary.since or present.generation)


def cancelled(present: PolicyRecord, _: Sequence[PolicyRecord]) -> PolicyRecord:
    """No shadow and no canary."""
    if present.shadow is None and present.canary is None:
        return present
    return present._replace(shadow=None, canary=None, note="")


def promoted(present: PolicyRecord, _: Sequence[PolicyRecord]) -> PolicyRecord:
    """The candidate becomes the policy. The shadow stays, unless it is the same. Raises NoCanary."""
    if present.canary is None:
        raise NoCanary("no canary runs in this pool, so there is nothing to promote; begin one, or set the policy")
    choice = present.canary.choice
    shadow = None if present.shadow == choice else present.shadow
    note = f"promoted from a canary of {present.canary.percent:g} %"
    return PolicyRecord(choice.name, choice.params, present.generation, shadow, None, note)


def rolled_back(to: int | None = None) -> Change:
    """The policy before this one, or the one of generation `to`; a canary and a shadow end.

    'Before' skips records of the same policy and those that an earlier rollback undid, so each rollback goes further
    back. Raises NothingBefore, NotInHistory.
    """

    def change(present: PolicyRecord, history: Sequence[PolicyRecord]) -> PolicyRecord:
        record = _before(present, history) if to is None else _of(to, history)
        origin = record.generation if record.restores is None else record.restores
        note = f"rolled back to generation {origin}"
        return PolicyRecord(record.name, record.params, present.generation, note=note, restores=origin)

    return change


def _before(present: PolicyRecord, history: Sequence[PolicyRecord]) -> PolicyRecord:
    start = present.generation if present.restores is None else present.restores
    for record in history:
        if record.generation < start and (record.name, record.params) != (present.name, present.params):
            return record
    raise NothingBefore(f"no policy other than {present.name} is known from before generation {start}; set one by name")


def _of(generation: int, history: Sequence[PolicyRecord]) -> PolicyRecord:
    for record in history:
        if record.generation == generation:
            return record
    kept = ", ".join(str(record.generation) for record in history)
    raise NotInHistory(f"generation {generation} is not in this pool's history; there are: {kept}")
