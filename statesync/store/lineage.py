"""The identity and the lineage of policy records, and the decision between the record that a replica knows and the one
that the shared state holds. Pure.

A record's identity is the digest of all that it says, its generation included, so that a version which knows no digests
writes records that have one. Its lineage is what came before it. The shared state decides: a replica puts back what was
lost only if that descends from what is there, and gives up its own record otherwise.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from hashlib import sha256
from typing import Final, NamedTuple

import msgspec

from statesync.store.policy_json import TRIAL_FIELDS, written
from statesync.store.policy_record import CanaryGuard
from statesync.store.protocol import POLICY_HISTORY, PolicyRecord

LINEAGE: Final = 1_024
"""Digests of a pool's earlier records that a replica keeps: a snapshot of the server may be that many changes old."""

_DIGITS: Final = 16
_EXACT: Final = 12
"""Hexadecimal digits of a digest; those of them that a metric's float holds exactly."""


def _plain(value: object) -> object:
    """A parameter that JSON has no form for; settings may have some."""
    return dict(value) if isinstance(value, Mapping) else repr(value)


_encode: Final = msgspec.json.Encoder(order="sorted").encode


def digest(record: PolicyRecord) -> str:
    """The record's identity, as hexadecimal digits. Fields with their defaults do not count, so that a version with
    more fields agrees."""
    # When and by whom does not count: an older version that puts a record back leaves it out.
    fields, canary = written(record._replace(at=0.0, by=""), 0), record.canary
    if canary is not None:
        plain = CanaryGuard()._asdict()
        guard = {name: limit for name, limit in canary.guard._asdict().items() if limit != plain[name]}
        fields["canary"] = (
            {
                "name": canary.choice.name,
                "params": canary.choice.params,
                "percent": canary.percent,
            }
            | guard
            | {name: value for name in TRIAL_FIELDS if (value := getattr(canary, name))}
        )
    # Settings may have maps with other keys than text; as JSON they have text.
    said = msgspec.to_builtins({"generation": record.generation, **fields}, str_keys=True, enc_hook=_plain)
    return sha256(_encode(said)).hexdigest()[:_DIGITS]


def as_number(identity: str) -> int:
    """A digest as a metric shows it: other numbers mean other records."""
    return int(identity[:_EXACT], 16)


class Lineage(NamedTuple):
    """A pool's newest record and what came before it, as far as a replica knows."""

    records: tuple[PolicyRecord, ...] = ()
    """The last ones, newest first."""
    digests: tuple[str, ...] = ()
    """Of these and of earlier ones, newest first."""

    def with_next(self, record: PolicyRecord) -> Lineage:
        """After a change that was derived from the newest record."""
        return Lineage((record, *self.records)[:POLICY_HISTORY], (digest(record), *self.digests)[:LINEAGE])

    def with_stored(self, stored: Sequence[PolicyRecord]) -> Lineage:
        """After reading the shared state's records, newest first: earlier digests stay if they lead to these."""
        found = tuple(map(digest, stored))
        earlier = self.digests if self.digests and self.digests[0] in found else ()
        below = earlier[earlier.index(found[-1]) + 1 :] if found and found[-1] in earlier else ()
        return Lineage(tuple(stored[:POLICY_HISTORY]), (*found, *below)[:LINEAGE])


class Judgement(NamedTuple):
    """What to do about the records that the shared state holds."""

    restore: bool = False
    """Put this replica's records back: the shared state has an earlier state of them, or nothing."""
    given_up: tuple[PolicyRecord, ...] = ()
    """Records of this replica that are not among the ancestors of the shared one, newest first: to be reported."""


def judge(known: Lineage, stored: Sequence[PolicyRecord]) -> Judgement:
    """Compare what this replica knows with what the shared state holds, newest first."""
    if not known.records:
        return Judgement()
    if not stored:
        return Judgement(restore=True)
    found = tuple(map(digest, stored))
    mine = known.records[0]
    if digest(mine) not in found and _leads_to(found, known.digests):
        return Judgement(restore=True)
    oldest = stored[-1].generation
    missing = [each for each in known.records if digest(each) not in found]
    return Judgement(given_up=tuple(each for each in missing if each is mine or each.generation >= oldest))


def _leads_to(stored: Sequence[str], known: Sequence[str]) -> bool:
    """Whether the known records come after the stored ones: the newest stored one is among them, and what is before it
    there is before it here, as far as both reach. The same change may have been made in two lineages."""
    if stored[0] not in known:
        return False
    before = known[known.index(stored[0]) :]
    return set(stored[: len(before)]) <= set(before)
