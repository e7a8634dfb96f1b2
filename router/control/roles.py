"""Which role each path of the control port needs, in one table. A test walks the routes and demands a row for each.

A path without a row needs a token of any role, before it is answered that there is no such path; a method without a
row needs `operate`. So a route that was forgotten here is closed rather than open.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from re import Pattern
from typing import Final, NamedTuple

from starlette.routing import compile_path

from router.control.plane import ControlPlane, describe_policy, named_pods
from router.control.tokens import Role
from router.settings import Control

Show = Callable[[ControlPlane, Mapping[str, str]], object]
"""What a change is about to change, for the audit log; path parameters by name. May raise StateError."""


class RouteRow(NamedTuple):
    """What one method of one path needs."""

    role: Role
    shows: Show | None = None


def _policy(plane: ControlPlane, of: Mapping[str, str]) -> object:
    return describe_policy(plane, of["pool"])


def _pod(plane: ControlPlane, of: Mapping[str, str]) -> object:
    pod = named_pods(plane.view, of["pod"])[-1]  # the one that the answer shows
    return {"id": pod, "blockers": list(plane.view.status(pod).blockers)}


def _key(plane: ControlPlane, of: Mapping[str, str]) -> object:
    keys = plane.keys.all() if plane.keys is not None else ()
    return next((key.describe(plane.tokens.now()) for key in keys if key.name == of.get("name")), None)


def _phase(plane: ControlPlane, _: Mapping[str, str]) -> object:
    return {"phase": plane.lifecycle.phase.value}


_PROBE: Final = RouteRow(Role.PROBE)
_OPEN: Final = RouteRow(Role.OPEN)
_READ: Final = RouteRow(Role.READ)
_POLICY: Final = RouteRow(Role.OPERATE, _policy)
_KEY: Final = RouteRow(Role.OPERATE, _key)
_POD: Final = RouteRow(Role.OPERATE, _pod)

METRICS: Final = "/metrics"

ROUTES: Final[Mapping[str, Mapping[str, RouteRow]]] = {
    "/livez": {"GET": _PROBE},
    "/readyz": {"GET": _PROBE},
    METRICS: {"GET": _OPEN},
    "/docs": {"GET": _OPEN},
    "/openapi.json": {"GET": _OPEN},
    "/": {"GET": _OPEN},
    "/console": {"GET": _OPEN},
    "/console/{version}/{name}": {"GET": _OPEN},
    "/admin/live": {"GET": _READ},
    "/admin/pods": {"GET": _READ},
    "/admin/pods/{pod:path}/drain": {"POST": _POD, "DELETE": _POD},
    "/admin/pods/{pod:path}": {"GET": _READ},
    "/admin/pools": {"GET": _READ},
    "/admin/pools/{pool}/policy": {"GET": _READ, "PUT": _POLICY},
    "/admin/pools/{pool}/rollback": {"POST": _POLICY},
    "/admin/pools/{pool}/history": {"GET": _READ},
    "/admin/pools/{pool}/shadow": {"PUT": _POLICY, "DELETE": _POLICY},
    "/admin/pools/{pool}/canary": {"PUT": _POLICY, "DELETE": _POLICY},
    "/admin/pools/{pool}/promote": {"POST": _POLICY},
    "/admin/pools/{pool}/trial": {"GET": _READ},
    "/admin/plugins": {"GET": _READ},
    "/admin/keys": {"GET": _READ, "POST": _KEY},
    "/admin/keys/{name}": {"DELETE": _KEY},
    "/admin/state": {"GET": _READ},
    "/admin/drain": {"POST": RouteRow(Role.OPERATE, _phase)},
}
"""Path -> method -> what it needs. A path that shows prompts or secrets would need `operate` to be read."""

_COMPILED: Final[tuple[tuple[Pattern[str], str], ...]] = tuple((compile_path(path)[0], path) for path in ROUTES)


class FoundRoute(NamedTuple):
    """A request's row."""

    path: str
    """As in the table; empty if the table has none."""
    needs: RouteRow
    params: Mapping[str, str]


def route_of(method: str, path: str) -> FoundRoute:
    """What a request needs; `path` is decoded, as the routes match it."""
    known = False
    for template, params in _matching(path):
        row = ROUTES[template].get("GET" if method == "HEAD" else method)
        if row is not None:
            return FoundRoute(template, row, params)
        known = True
    reads = not known and method in ("GET", "HEAD")
    return FoundRoute("", _READ if reads else RouteRow(Role.OPERATE), {})


def needed(found: FoundRoute, control: Control) -> Role:
    """The role that a request needs with these settings."""
    return Role.READ if control.metrics_auth and found.path == METRICS else found.needs.role


def _matching(path: str) -> Iterator[tuple[str, Mapping[str, str]]]:
    for pattern, template in _COMPILED:
        if found := pattern.match(path):  # as the router matches: `fullmatch` would not take a line break at the end
            yield template, found.groupdict()
