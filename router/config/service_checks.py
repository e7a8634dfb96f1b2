"""Checks of pools that serve no models: their paths, where sessions are, and settings that only models have. Pure;
called by `checks.py`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from importlib.util import find_spec
from typing import Final

from router.config.problems import Path, Problem
from router.dataplane.request.service_session import PART, PLACES
from router.settings import GRPC, HOLD, HTTP, KINDS, LLM, Pool, PoolService, Settings

OWN: Final = ("/livez", "/readyz", "/health", "/v1")
"""Paths of the gateway and of models."""

ALL: Final = "/*"

OF_PROMPTS: Final = ("prefix_aware", "slo_goodput")
"""Policies that weigh what a service's requests do not have."""

_PATH: Final = re.compile(r"(?:/(?!\.{1,2}(?:/|$))[A-Za-z0-9._~!$&'()+,;=:@-]+)+(?:/\*?)?")
_NAME: Final = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")


def service_problems(settings: Settings) -> Iterator[Problem]:
    """Problems of `pools[].kind` and `pools[].service`."""
    seen: dict[str, str] = {}
    kinds = {pool.name: pool.kind for pool in settings.pools}
    for at, pool in enumerate(settings.pools):
        path: Path = ("pools", at)
        if pool.kind not in KINDS:
            yield Problem((*path, "kind"), f"{pool.kind!r} is not one of {', '.join(KINDS)}")
        elif pool.kind == LLM:
            if pool.service != PoolService():
                yield Problem((*path, "service"), "is for pools that serve no models: set `kind: http` or `kind: grpc`")
        else:
            if pool.kind == GRPC:
                yield from _grpc(pool, path)
            yield from _paths(pool, (*path, "service"), seen)
            yield from _sessions(pool, (*path, "service", "session"))
            yield from _of_models(pool, path)
        yield from _fallbacks(pool, path, kinds)
    if kinds.get(settings.default_pool, LLM) != LLM:
        message = f"takes requests for models, and {settings.default_pool!r} serves none"
        yield Problem(("default_pool",), message)


def _paths(pool: Pool, path: Path, seen: dict[str, str]) -> Iterator[Problem]:
    if not pool.service.paths and pool.kind == GRPC:
        if seen.setdefault(ALL, pool.name) != pool.name:
            yield Problem((*path, "paths"), f"is empty, and all other methods are of pool {seen[ALL]!r} already")
    elif not pool.service.paths:
        yield Problem((*path, "paths"), "is empty, so no request comes to the pool; name some, such as /agents/*")
    for at, text in enumerate(pool.service.paths):
        where: Path = (*path, "paths", at)
        if wrong := _path_problem(text, pool.kind):
            yield Problem(where, wrong)
        elif pool.kind == HTTP and (own := next((own for own in OWN if f"{text}/".startswith(f"{own}/")), "")) != "":
            yield Problem(where, f"{text!r} is among the gateway's own paths, as {own} is")
        elif seen.setdefault(text, pool.name) != pool.name or pool.service.paths.index(text) != at:
            yield Problem(where, f"{text!r} is a path of pool {seen[text]!r} already")
    for text, within_s in pool.service.deadlines_s.items():
        where = (*path, "deadlines_s", text)
        if wrong := _path_problem(text, GRPC):
            yield Problem(where, wrong)
        elif not (math.isfinite(within_s) and within_s > 0):
            yield Problem(where, f"must be more than 0, not {within_s:g}")


def _grpc(pool: Pool, path: Path) -> Iterator[Problem]:
    """Settings that gRPC has not."""
    if find_spec("hpack") is None:
        yield Problem((*path, "kind"), "gRPC needs the package hpack; run: pip install 'turnout[grpc]'")
    if pool.affinity == HOLD:
        yield Problem((*path, "affinity"), "hold is for `kind: http`: no call waits for a pod; write prefer")
    if pool.fallback:
        yield Problem((*path, "fallback"), "calls of gRPC have no fall-back; leave it out")
    for at, place in enumerate(pool.service.session):
        if place.partition(":")[0] != "header":
            yield Problem(
                (*path, "service", "session", at), "calls have their session in metadata: header:x-session-id"
            )


def _path_problem(text: str, kind: str) -> str:
    if text == ALL and kind == GRPC:
        return ""
    if text in ("/", ALL):
        return "would take the gateway's own paths, too; write the beginnings that the pool has, such as /agents/*"
    if not _PATH.fullmatch(text):
        return f"{text!r} is no path; write /agents/run for one, /agents/* for all below it"
    return ""


def _sessions(pool: Pool, path: Path) -> Iterator[Problem]:
    places: Sequence[str] = pool.service.session
    for at, text in enumerate(places):
        place, _, name = text.partition(":")
        if place not in PLACES:
            yield Problem((*path, at), f"{text!r} begins with none of header:, cookie:, path:")
        elif place == PART and not (name.isascii() and name.isdecimal() and 0 < int(name) < 100):
            yield Problem((*path, at), f"{text!r} has no number of a part; path:1 is the first after the pool's path")
        elif place != PART and not _NAME.fullmatch(name):
            yield Problem((*path, at), f"{text!r} has no name of a {place}, as in {place}:agent-id")
    if pool.affinity == HOLD and not places:
        yield Problem(path, "is empty, and `affinity: hold` needs sessions; write header:x-agent-id, for example")


def _of_models(pool: Pool, path: Path) -> Iterator[Problem]:
    """Settings that mean nothing where no models are served."""
    plain = Pool(name=pool.name)
    for name in ("models", "aliases", "engine", "slo"):
        if getattr(pool, name) != getattr(plain, name):
            yield Problem((*path, name), f"is for pools with models, and this one is `kind: {pool.kind}`; leave it out")
    if pool.max_inflight_per_pod == "auto":
        yield Problem((*path, "max_inflight_per_pod"), "is learned from engines only; write a number, 0 for no limit")
    if pool.policy.name in OF_PROMPTS:
        message = f"{pool.policy.name} weighs prompts, and there are none; write session_affinity, least_load or p2c"
        yield Problem((*path, "policy", "name"), message, "warning")


def _fallbacks(pool: Pool, path: Path, kinds: Mapping[str, str]) -> Iterator[Problem]:
    for at, name in enumerate(pool.fallback):
        if kinds.get(name, pool.kind) != pool.kind:
            message = f"pool {name!r} is `kind: {kinds[name]}`, this one `kind: {pool.kind}`"
            yield Problem((*path, "fallback", at), message)
