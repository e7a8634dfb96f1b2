"""The policies as this replica last knew them, so that what Redis loses can be put back. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from statesync.store import POLICY_HISTORY, PolicyRecord


class PolicyBook:
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
