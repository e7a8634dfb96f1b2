"""The policy records last seen, so that records lost by Redis can be restored. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy

from statesync.store.policy_record import PolicyChoice
from statesync.store.protocol import POLICY_HISTORY, PolicyRecord


def own_copy(record: PolicyRecord) -> PolicyRecord:
    """The record with parameters that are shared with no other object."""
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
    """The last records of each pool, newest first."""

    def __init__(self) -> None:
        self._records: dict[str, list[PolicyRecord]] = {}

    def learn(self, pool: str, record: PolicyRecord) -> bool:
        """Add one record. False if it, or a newer one, was known."""
        known = self._records.setdefault(pool, [])
        if known and known[0].generation >= record.generation:
            return False
        self._records[pool] = [record, *known][:POLICY_HISTORY]
        return True

    def read(self, pool: str, stored: Sequence[PolicyRecord]) -> PolicyRecord | None:
        """Take the server's records, newest first. Returns the newest if it was not known."""
        known = self._records.get(pool)
        if not stored or (known and known[0].generation >= stored[0].generation):
            return None
        self._records[pool] = list(stored[:POLICY_HISTORY])
        return stored[0]

    def newest(self, pool: str) -> int:
        """The generation of the pool's newest record; 0 without one."""
        known = self._records.get(pool)
        return known[0].generation if known else 0

    def lost(self, stored: Mapping[str, int]) -> dict[str, list[PolicyRecord]]:
        """Records of the pools whose newest generation on the server (`stored`) is older than the one known here."""
        return {
            pool: list(known)
            for pool, known in self._records.items()
            if known and known[0].generation > stored.get(pool, 0)
        }

    def __repr__(self) -> str:
        newest = (f"{pool} at {known[0].generation}" for pool, known in self._records.items() if known)
        return f"<PolicyCache: {', '.join(newest) or 'empty'}>"
