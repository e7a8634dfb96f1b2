"""Checks of names that refer from one part of the settings to another: ready-made policies, fall-back pools, explicit
targets. Pure; called by `checks.py`.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from difflib import get_close_matches

from router.config.plugin_checks import is_version
from router.config.problems import Path, Problem
from router.dataplane.request.routes import cluster_of
from router.settings import PolicySpec, Pool, Settings, Targets
from schedulers.errors import SchedulerError
from schedulers.registry import create, names

_POLICY_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
"""The name is part of headers and metric labels."""


def ready_made(settings: Settings) -> Iterator[Problem]:
    """Problems of the section `policies`."""
    for name, spec in settings.policies.items():
        path: Path = ("policies", name)
        if not _POLICY_NAME.fullmatch(name):
            yield Problem(path, f"{name!r} is no name: letters, digits, '.', '_' and '-', at most 63")
        elif name in names():
            yield Problem(path, f"{name!r} is a policy already; choose another name")
        elif spec.name in settings.policies:
            yield Problem((*path, "name"), f"{spec.name!r} is ready-made too; write what it stands for")
        else:
            yield from spec_problems(spec, path)


def policies(pool: Pool, path: Path, ready: Mapping[str, PolicySpec]) -> Iterator[Problem]:
    """Problems of a pool's policy, and of those that its requests may choose."""
    spec = pool.policy
    if spec.name not in ready:
        yield from spec_problems(spec, (*path, "policy"), ready)
    elif spec.params:
        yield Problem((*path, "policy", "params"), f"{spec.name!r} is ready-made and takes no parameters")
    known = (*names(), *ready)
    for at, name in enumerate(pool.allowed_policies):
        if name != "*" and name not in known and not is_version(name):
            yield Problem((*path, "allowed_policies", at), f"no policy {name!r}; there are: {', '.join(known)}")


def spec_problems(spec: PolicySpec, path: Path, ready: Collection[str] = ()) -> Iterator[Problem]:
    """Problems of a policy's name and parameters."""
    if is_version(spec.name):
        return
    try:
        create(spec.name, spec.params)
    except SchedulerError as error:
        unknown = spec.name not in names()
        more = f"; ready-made: {', '.join(ready)}" if unknown and ready else ""
        yield Problem((*path, "name" if unknown else "params"), f"{error}{more}")


def fallbacks(pool: Pool, path: Path, pools: Mapping[str, Pool]) -> Iterator[Problem]:
    """Problems of a pool's fall-backs."""
    for at, name in enumerate(pool.fallback):
        where: Path = (*path, "fallback", at)
        if name == pool.name:
            yield Problem(where, "is the pool itself")
        elif name not in pools:
            yield Problem(where, f"no pool {name!r}{spelling(name, pools)}")
        elif name in pool.fallback[:at]:
            yield Problem(where, f"{name!r} stands here twice; each is tried once")
        else:
            yield from _unservable(pool, pools[name], where)
    if pool.fallback_after_s and not pool.fallback:
        yield Problem((*path, "fallback_after_s"), "means nothing without `fallback`", "warning")
    elif pool.fallback_after_s and not pool.max_inflight_per_pod:
        yield Problem(
            (*path, "fallback_after_s"), "means nothing without `max_inflight_per_pod`: no pod is ever full", "warning"
        )


def _unservable(pool: Pool, other: Pool, where: Path) -> Iterator[Problem]:
    """Models of the pool that its fall-back does not serve under any of their names."""
    if not pool.models or not other.models:
        return  # one of them learns its models from the pods
    there = {*other.models, *other.aliases}
    lost = [model for model in pool.models if model not in there]
    lost += [name for name, model in pool.aliases.items() if model in lost and name not in there]
    reached = {model for name, model in pool.aliases.items() if name in there}
    if len(lost) == len(pool.models) + len(pool.aliases):
        yield Problem(where, f"pool {other.name!r} serves none of {', '.join(pool.models)}")
    elif missing := [name for name in lost if name not in reached]:
        message = f"pool {other.name!r} does not serve {', '.join(missing)}: requests for it do not fall back there"
        yield Problem(where, message, "warning")


def targets(settings: Settings) -> Iterator[Problem]:
    """Problems of the section `targets`."""
    known = {pool.name for pool in settings.pools} | {cluster_of(pool) for pool in settings.pools}
    yield from known_names(settings.targets.allow, ("targets", "allow"), "pool or cluster", known)
    if settings.auth is not None and settings.targets != Targets():
        message = "has no effect with `auth`: the `targets` of a tenant say what its requests may name"
        yield Problem(("targets",), message, "warning")
    seen: dict[str, int] = {}
    for at, client in enumerate(settings.targets.clients):
        path: Path = ("targets", "clients", at)
        yield from known_names(client.allow, (*path, "allow"), "pool or cluster", known)
        if not re.fullmatch(r"[0-9a-fA-F]{64}", client.key_sha256):
            yield Problem((*path, "key_sha256"), "must be 64 hexadecimal digits, the SHA-256 of the key")
        elif seen.setdefault(client.key_sha256.lower(), at) != at:
            yield Problem((*path, "key_sha256"), f"is the key of clients[{seen[client.key_sha256.lower()]}] too")


def known_names(given: Collection[str], path: Path, kind: str, known: Collection[str]) -> Iterator[Problem]:
    """Names of a list that are neither `*` nor among those that are known."""
    for at, name in enumerate(given):
        if name != "*" and (name not in known or not name):
            yield Problem((*path, at), f"no {kind} {name!r}{spelling(name, known)}")


def spelling(name: str, known: Collection[str]) -> str:
    """What may be meant by a name that is not known: the end of a message."""
    near = get_close_matches(name, known, 1)
    there = ", ".join(sorted(filter(None, known))) or "none"
    return f"; did you mean {near[0]!r}?" if near else f"; there are: {there}"
