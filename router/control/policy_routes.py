"""The control port's paths for policies. Each reads or calls the policy controller; no decision is made here.

Every change understands `If-Match` (the generation that it replaces, or `generation-digest`; a stale one is a 412),
`?dry_run=true` (answer as if changed, change nothing), `?note=` and the header `x-turnout-author` (why and who, for the
history) and `?local=true` (while the shared state is away: change this replica alone, until it is back).
"""

from __future__ import annotations

import re
from typing import Annotated, Final

from fastapi import APIRouter, Depends, Header, Query, Response
from pydantic import BaseModel, ConfigDict, Field

from router.control.answers import ControlError
from router.control.author import Maker
from router.control.plane import ControlPlane, describe_policy, describe_pools, describe_record
from router.policy.model import ChangeOptions
from statesync.store.policy_record import Canary, CanaryGuard, PolicyChoice
from statesync.store.protocol import PolicyRecord

_GUARD = CanaryGuard()

MIN_SWITCHBACK_S = 5.0
"""Replicas' wall clocks differ by a part of a second, and requests of the span before still run."""

_ALL = (
    "percent: a canary of 100 % leaves no requests to compare it with; take a smaller share, such as 50, or set the "
    "policy (turnout policy set), which rollback undoes"
)
_SHORT = f"switchback_s: spans are at least {MIN_SWITCHBACK_S:g} s, so that requests of one seldom run in the next"


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


class PolicyBody(_Body):
    """A policy by name, with its parameters."""

    policy: str
    params: dict[str, object] = Field(default_factory=dict)

    def choice(self) -> PolicyChoice:
        """As the policy controller takes it."""
        return PolicyChoice(self.policy, self.params)


class GuardBody(_Body):
    """Limits that end a canary; 0 turns a limit off."""

    error_rate: float = Field(default=_GUARD.error_rate, ge=0, le=1)
    ttft_p95_ratio: float = Field(default=_GUARD.ttft_p95_ratio, ge=0, allow_inf_nan=False)
    min_requests: int = Field(default=_GUARD.min_requests, ge=1)
    confidence: float = Field(default=_GUARD.confidence, ge=0.5, lt=1)
    ttft_p50_ratio: float = Field(default=_GUARD.ttft_p50_ratio, ge=0, allow_inf_nan=False)
    e2e_p95_ratio: float = Field(default=_GUARD.e2e_p95_ratio, ge=0, allow_inf_nan=False)
    pool_p95_ratio: float = Field(default=_GUARD.pool_p95_ratio, ge=0, allow_inf_nan=False)
    tpot_p50_ratio: float = Field(default=_GUARD.tpot_p50_ratio, ge=0, allow_inf_nan=False)


class CanaryBody(PolicyBody):
    """A candidate, its share of the sessions, and its guard."""

    percent: float = Field(gt=0, le=100)
    guard: GuardBody = Field(default_factory=GuardBody)
    switchback_s: float = Field(default=0.0, ge=0, le=86400)

    def canary(self) -> Canary:
        """As the policy controller takes it. Raises ControlError for a share that leaves nothing to compare with."""
        if self.percent == 100:
            raise ControlError(422, "invalid_request", _ALL, "percent")
        if 0 < self.switchback_s < MIN_SWITCHBACK_S:
            raise ControlError(422, "invalid_request", _SHORT, "switchback_s")
        guard = CanaryGuard(**self.guard.model_dump())
        return Canary(self.choice(), self.percent, guard, switchback_s=self.switchback_s)


class RollbackBody(_Body):
    """The generation to return to; without it, the policy before."""

    to: int | None = Field(default=None, ge=0)


_MATCH: Final = re.compile(r"(?P<generation>[0-9]{1,19})(-(?P<digest>[0-9a-f]{1,64}))?")


def _expected(if_match: str | None) -> tuple[int | None, str]:
    """Generation and digest of `"3"`, `3`, `"3-5f0c..."` or `*`; anything else is an error rather than a silent
    overwrite."""
    if if_match is None or if_match.strip() == "*":
        return None, ""
    found = _MATCH.fullmatch(if_match.strip().removeprefix("W/").strip('"'))
    if found is None:
        why = f"If-Match holds a generation, alone or with the record's digest (3-0123456789abcdef), not {if_match!r}"
        raise ControlError(400, "invalid_if_match", why, "If-Match")
    return int(found["generation"]), found["digest"] or ""


def _how(
    by: Maker,
    if_match: Annotated[str | None, Header()] = None,
    dry_run: bool = False,
    local: bool = False,
    note: Annotated[str, Query(max_length=1000)] = "",
) -> ChangeOptions:
    generation, digest = _expected(if_match)
    return ChangeOptions(generation, note, dry_run, local, digest, by)


_How = Annotated[ChangeOptions, Depends(_how)]


def policy_routes(plane: ControlPlane) -> APIRouter:
    """Pools, the policy of each, its history and rollback."""
    router = APIRouter(prefix="/admin/pools", tags=["policies"])
    policies = plane.policies

    @router.get("")
    async def pools() -> list[dict[str, object]]:
        """Every pool: models, pods, policy."""
        return describe_pools(plane)

    @router.get("/{pool}/policy")
    async def policy(pool: str, response: Response) -> dict[str, object]:
        """The pool's policy; its generation is the ETag."""
        _tag(policies.record(pool), response)
        return describe_policy(plane, pool)

    @router.put("/{pool}/policy")
    async def put_policy(pool: str, body: PolicyBody, how: _How, response: Response) -> dict[str, object]:
        """Replace the pool's policy on every replica; a shadow stays, a canary ends."""
        record = await policies.set(pool, body.policy, body.params, how)
        return _changed(record, how, response)

    @router.post("/{pool}/rollback")
    async def rollback(pool: str, how: _How, response: Response, body: RollbackBody | None = None) -> dict[str, object]:
        """Back to the policy before this one, or to that of a generation; shadow and canary end."""
        record = await policies.rollback(pool, how, to=body.to if body is not None else None)
        return _changed(record, how, response)

    @router.get("/{pool}/history")
    async def history(pool: str) -> list[dict[str, object]]:
        """The last records, newest first; generation 0 is the settings' own."""
        return [describe_record(record) for record in await policies.history(pool)]

    return router


def plugin_routes(plane: ControlPlane) -> APIRouter:
    """Policies from plugin files."""
    router = APIRouter(prefix="/admin", tags=["policies"])

    @router.get("/plugins")
    async def plugins() -> dict[str, object]:
        """Each file of the plugin directory: what it is offered as, or why it is not."""
        return dict(plane.plugins())

    return router


def trial_routes(plane: ControlPlane) -> APIRouter:
    """What is tried beside a pool's policy."""
    router = APIRouter(prefix="/admin/pools", tags=["trials"])
    policies = plane.policies

    @router.put("/{pool}/shadow")
    async def put_shadow(pool: str, body: PolicyBody, how: _How, response: Response) -> dict[str, object]:
        """Run this policy in the shadow of the pool's policy: it sees the same requests and decides nothing."""
        return _changed(await policies.set_shadow(pool, body.choice(), how), how, response)

    @router.delete("/{pool}/shadow")
    async def delete_shadow(pool: str, how: _How, response: Response) -> dict[str, object]:
        """End the shadow."""
        return _changed(await policies.set_shadow(pool, None, how), how, response)

    @router.put("/{pool}/canary")
    async def put_canary(pool: str, body: CanaryBody, how: _How, response: Response) -> dict[str, object]:
        """Let this policy decide a share of the sessions, until it is promoted, ended, or taken back by its guard."""
        return _changed(await policies.set_canary(pool, body.canary(), how), how, response)

    @router.delete("/{pool}/canary")
    async def delete_canary(pool: str, how: _How, response: Response) -> dict[str, object]:
        """End the canary; the pool's policy decides all."""
        return _changed(await policies.set_canary(pool, None, how), how, response)

    @router.post("/{pool}/promote")
    async def promote(pool: str, how: _How, response: Response, force: bool = False) -> dict[str, object]:
        """Make the candidate the policy; with `force` also against what its trial found."""
        return _changed(await policies.promote(pool, how, force=force), how, response)

    @router.get("/{pool}/trial")
    async def trial(pool: str) -> dict[str, object]:
        """How shadow and canary do, over all replicas."""
        policies.record(pool)
        return dict(plane.trial(pool))

    return router


def _changed(record: PolicyRecord, how: ChangeOptions, response: Response) -> dict[str, object]:
    """The record that was put, or would be."""
    _tag(record, response)
    shown = {**describe_record(record), "local": how.local, "dry_run": how.dry_run}
    if how.dry_run:
        del shown["digest"]  # no record has it: this one was not put
    return shown


def _tag(record: PolicyRecord, response: Response) -> None:
    response.headers["etag"] = f'"{record.generation}"'
