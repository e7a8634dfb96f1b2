"""A pool's policy record as JSON, which scripts and people read.

A field is only ever added, with a default, and never changes its meaning. Fields with their defaults are left out, and
a replica of an older version ignores those that it does not know. `messages.py` makes the bytes.
"""

from __future__ import annotations

from typing import Annotated

import msgspec

from statesync.store.policy_record import Canary, CanaryGuard, PolicyChoice
from statesync.store.protocol import PolicyRecord

Generation = Annotated[int, msgspec.Meta(ge=0, le=1 << 53)]


class ChoiceJson(msgspec.Struct):
    """A `PolicyChoice` in a record."""

    name: str
    params: dict[str, object] = {}

    def choice(self) -> PolicyChoice:
        """As a value of the router."""
        return PolicyChoice(self.name, self.params)


class GuardJson(msgspec.Struct, frozen=True):
    """A `CanaryGuard` in a record; its first four fields are always written, so that other versions' defaults do not
    matter."""

    error_rate: float = CanaryGuard().error_rate
    ttft_p95_ratio: float = CanaryGuard().ttft_p95_ratio
    min_requests: int = CanaryGuard().min_requests
    confidence: float = CanaryGuard().confidence
    ttft_p50_ratio: float = CanaryGuard().ttft_p50_ratio
    e2e_p95_ratio: float = CanaryGuard().e2e_p95_ratio
    pool_p95_ratio: float = CanaryGuard().pool_p95_ratio
    tpot_p50_ratio: float = CanaryGuard().tpot_p50_ratio


class TrialJson(ChoiceJson, kw_only=True):
    """A `Canary` in a record."""

    percent: Annotated[float, msgspec.Meta(ge=0.0, le=100.0)]
    guard: GuardJson = GuardJson()
    began: Generation = 0
    since: Generation = 0
    stage: Annotated[int, msgspec.Meta(ge=0, le=1000)] = 0
    switchback_s: Annotated[float, msgspec.Meta(ge=0.0, le=86400.0)] = 0.0

    def canary(self) -> Canary:
        """As a value of the router."""
        guard = CanaryGuard(*(getattr(self.guard, name) for name in CanaryGuard._fields))
        return Canary(self.choice(), self.percent, guard, self.began, self.since, self.stage, self.switchback_s)


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
    at: Annotated[float, msgspec.Meta(ge=0.0, le=1e12)] = 0.0
    by: str = ""

    def record(self) -> PolicyRecord:
        """As a value of the router."""
        shadow = self.shadow.choice() if self.shadow is not None else None
        canary = self.canary.canary() if self.canary is not None else None
        made = self.note, self.restores, self.at, self.by
        return PolicyRecord(self.name, self.params, self.generation, shadow, canary, *made)


_ALWAYS = ("error_rate", "ttft_p95_ratio", "min_requests", "confidence")
TRIAL_FIELDS = ("began", "since", "stage", "switchback_s")
"""Fields of a canary that are left out with their defaults."""


def written(record: PolicyRecord, schema: int) -> dict[str, object]:
    """The record's fields without its generation; optional fields with their defaults are left out."""
    fields: dict[str, object] = {"name": record.name, "params": dict(record.params), "v": schema}
    if record.shadow is not None:
        fields["shadow"] = _chosen(record.shadow)
    if (canary := record.canary) is not None:
        fields["canary"] = {
            **_chosen(canary.choice),
            "percent": canary.percent,
            "guard": _limits(canary.guard),
            **{name: value for name in TRIAL_FIELDS if (value := getattr(canary, name))},
        }
    if record.note:
        fields["note"] = record.note
    if record.restores is not None:
        fields["restores"] = record.restores
    fields |= {name: value for name in ("at", "by") if (value := getattr(record, name))}
    return fields


def _limits(guard: CanaryGuard) -> dict[str, object]:
    usual = CanaryGuard()._asdict()
    return {name: limit for name, limit in guard._asdict().items() if name in _ALWAYS or limit != usual[name]}


def _chosen(choice: PolicyChoice) -> dict[str, object]:
    return {"name": choice.name, "params": dict(choice.params)}
