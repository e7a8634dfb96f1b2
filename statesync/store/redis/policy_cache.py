"""The policies as this replica last knew them, so that what Redis loses can be put back. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy

from statesync.store.policy_record import PolicyChoice
from statesync.store.protocol import POLICY_HISTORY, PolicyRecord


def own_copy(record: PolicyRecord) -> PolicyRecord:
    """The record with parameters that nobody else holds."""
    canary = record.canary
    return record._replace(
        params=_own_params(record.params),
        shadow=_own_choice(record.shadow) if record.shadow is not None else None,
        canary=canary._replace(choice=_own_choice(canary.choice)) if canary is not None else None,
    )


def _own_choice(choice: PolicyChoice) -> PolicyChoice:
    return choice._replace(params=_own_params(choice.params))


def _own_params(params: Mapping[str, object]) -> Mapping[str, object]:
    return deepcopy(dict(params))


class PolicyCache:
    """By pool the last records, newest first."""

    def __init__(self) -> None:
        self._records: dict[str, list[PolicyRecord]] = {}

    def learn(self, pool: str, record: PolicyRecord) -> bool:
        """A single record. False if this one, or a newer one, was known."""
        known = self._records.setdefault(pool, [])
        if known and known[0].generation >= record.generation:
            return False
        self._records[pool] = [record, *known][:POLICY_HISTORY]
        return True

    def read(self, pool: str, stored: Sequence[PolicyRecord]) -> PolicyRecord | None:
        """All the server has, newest first. Returns the newest if it is news."""
        known = self._records.get(pool)
        if not stored or (known and known[0].generation >= stored[0].generation):
            return None
        self._records[pool] = list(stored[:POLICY_HISTORY])
        return stored[0]

    def lost(self, stored: Mapping[str, int]) -> dict[str, list[PolicyRecord]]:
        """The pools of which more is known here than the server has; `stored` holds its newest generations."""
        return {
            pool: list(known)
            for pool, known in self._records.items()
            if known and known[0].generation > stored.get(pool, 0)
        }

    def __repr__(self) -> str:
        newest = (f"{pool} at {known[0].generation}" for pool, known in self._records.items() if known)
        return f"<PolicyBook: {', '.join(newest) or 'empty'}>"
