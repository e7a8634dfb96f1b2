"""A pool's policy record as JSON, which scripts and people read.

A field is only ever added, with a default, and never changes its meaning. Fields with their defaults are left out, and
a replica of an older version ignores those that it does not know. `messages.py` makes the bytes.
"""

from __future__ import annotations

from typing import Annotated

import msgspec

from statesync.store.policy_record import Canary, CanaryGuard, PolicyChoice
from statesync.store.protocol import PolicyRecord


class ChoiceJson(msgspec.Struct):
    """A `PolicyChoice` in a record."""

    name: str
    params: dict[str, object] = {}

    def choice(self) -> PolicyChoice:
        """As a value of the router."""
        return PolicyChoice(self.name, self.params)


class GuardJson(msgspec.Struct, frozen=True):
    """A `CanaryGuard` in a record; all its fields are written, so that other versions' defaults do not matter."""

    error_rate: float = CanaryGuard().error_rate
    ttft_p95_ratio: float = CanaryGuard().ttft_p95_ratio
    min_requests: int = CanaryGuard().min_requests
    confidence: float = CanaryGuard().confidence


class TrialJson(ChoiceJson, kw_only=True):
    """A `Canary` in a record."""

    percent: Annotated[float, msgspec.Meta(ge=0.0, le=100.0)]
    guard: GuardJson = GuardJson()

    def canary(self) -> Canary:
        """As a value of the router."""
        guard = CanaryGuard(*(getattr(self.guard, name) for name in CanaryGuard._fields))
        return Canary(self.choice(), self.percent, guard)


class RecordJson(msgspec.Struct):
    """A policy record, as JSON."""

    generation: Annotated[int, msgspec.Meta(ge=0, le=1 << 53)]
    name: str
    params: dict[str, object]
    v: int
    shadow: ChoiceJson | None = None
    canary: TrialJson | None = None
    note: str = ""
    restores: Annotated[int, msgspec.Meta(ge=0, le=1 << 53)] | None = None

    def record(self) -> PolicyRecord:
        """As a value of the router."""
        shadow = self.shadow.choice() if self.shadow is not None else None
        canary = self.canary.canary() if self.canary is not None else None
        return PolicyRecord(self.name, self.params, self.generation, shadow, canary, self.note, self.restores)


def written(record: PolicyRecord, schema: int) -> dict[str, object]:
    """The record's fields without its generation; optional fields with their defaults are left out."""
    fields: dict[str, object] = {"name": record.name, "params": dict(record.params), "v": schema}
    if record.shadow is not None:
        fields["shadow"] = _chosen(record.shadow)
    if (canary := record.canary) is not None:
        fields["canary"] = {
            **_chosen(canary.choice),
            "percent": canary.percent,
            "guard": canary.guard._asdict(),
        }
    if record.note:
        fields["note"] = record.note
    if record.restores is not None:
        fields["restores"] = record.restores
    return fields


def _chosen(choice: PolicyChoice) -> dict[str, object]:
    return {"name": choice.name, "params": dict(choice.params)}
