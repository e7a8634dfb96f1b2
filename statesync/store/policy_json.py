"""A pool's policy record as JSON: it is read by scripts, and by people.

A field is only ever added, with a default, and never given another meaning. What a record does not say is left out,
so that a replica of the version before reads the policy and passes over the rest. `messages.py` gives it its bytes.
"""

from __future__ import annotations

import msgspec

from statesync.store.policy_record import Canary, CanaryGuard, PolicyChoice
from statesync.store.protocol import PolicyRecord


class ChoiceJson(msgspec.Struct):
    """A `PolicyChoice` in a record."""

    name: str
    params: dict[str, object] = {}

    def choice(self) -> PolicyChoice:
        """As the rest of the router knows it."""
        return PolicyChoice(self.name, self.params)


class GuardJson(msgspec.Struct, frozen=True):
    """A `CanaryGuard` in a record: all its fields are written, so that another version's defaults do not matter."""

    error_rate: float = CanaryGuard().error_rate
    ttft_p95_ratio: float = CanaryGuard().ttft_p95_ratio
    min_requests: int = CanaryGuard().min_requests
    confidence: float = CanaryGuard().confidence


class TrialJson(ChoiceJson, kw_only=True):
    """A `Canary` in a record."""

    percent: float
    guard: GuardJson = GuardJson()

    def canary(self) -> Canary:
        """As the rest of the router knows it."""
        guard = CanaryGuard(*(getattr(self.guard, name) for name in CanaryGuard._fields))
        return Canary(self.choice(), self.percent, guard)


class RecordJson(msgspec.Struct):
    """A policy record, as JSON."""

    generation: int
    name: str
    params: dict[str, object]
    v: int
    shadow: ChoiceJson | None = None
    canary: TrialJson | None = None
    note: str = ""
    restores: int | None = None

    def record(self) -> PolicyRecord:
        """As the rest of the router knows it."""
        shadow = self.shadow.choice() if self.shadow is not None else None
        canary = self.canary.canary() if self.canary is not None else None
        return PolicyRecord(self.name, self.params, self.generation, shadow, canary, self.note, self.restores)


def written(record: PolicyRecord, schema: int) -> dict[str, object]:
    """What a record says beside its generation; what it does not say is left out, as it was before it could."""
    said: dict[str, object] = {"name": record.name, "params": dict(record.params), "v": schema}
    if record.shadow is not None:
        said["shadow"] = _chosen(record.shadow)
    if (canary := record.canary) is not None:
        said["canary"] = {
            **_chosen(canary.choice),
            "percent": canary.percent,
            "guard": canary.guard._asdict(),
        }
    if record.note:
        said["note"] = record.note
    if record.restores is not None:
        said["restores"] = record.restores
    return said


def _chosen(choice: PolicyChoice) -> dict[str, object]:
    return {"name": choice.name, "params": dict(choice.params)}
