"""What a file changed in modules that it did not define: `json.dumps = ...`, a method of another class, a name added to
`builtins`. In the gateway such a change would reach every request, so the check refuses it.

Objects are compared by identity, and functions by their code too. Knows nothing of policies.
"""

from __future__ import annotations

import asyncio
import json
import logging
import random
import sys
import time
from collections.abc import Iterator, Mapping
from types import FunctionType, ModuleType
from typing import Final

_CLOSELY: Final = frozenset({"builtins", "time", "random", "json", "msgspec", "router", "statesync", "schedulers"})
"""Packages of which private and added names count too. Elsewhere only names that were there and are public, or can be
called: libraries keep state of their own in private names."""

PRELOADED: Final = (asyncio, json, logging, random, time)
"""Loaded before the file, so that it is known what they held. Of other modules the file's second load shows a patch."""

_OWN_STATE: Final = frozenset({"sys.last_exc", "sys.last_type", "sys.last_value", "sys.last_traceback"})

Places = Mapping[str, object]
"""What each place held, such as `json.dumps` or `json.JSONEncoder.default`."""


class PatchWatch:
    """What every place of every module held when it was looked at last."""

    def __init__(self, modules: Mapping[str, object] = sys.modules) -> None:
        """Looks for the first time."""
        self._modules = modules
        self._before = places(modules)

    def problem(self) -> str:
        """What has been replaced since, for the file's author; empty if nothing was."""
        place = first_patch(self._before, places(self._modules))
        return f"it replaces {place}, which all of the gateway uses: a policy changes no other module" if place else ""

    def look_again(self) -> None:
        """Modules that were loaded since are looked after from now on."""
        self._before = places(self._modules)


def places(modules: Mapping[str, object]) -> Places:
    """Every place of those of these modules that are loaded now."""
    found: dict[str, object] = {}
    for name, module in list(modules.items()):
        found[name] = module
        if isinstance(module, ModuleType):
            found.update(_of_module(name, module))
    return found


def first_patch(before: Places, after: Places) -> str:
    """The first place that holds something else than before; empty if there is none."""
    for place, held in before.items():
        if place not in after or after[place] is not held:
            return place
    known = {name for name, held in before.items() if isinstance(held, ModuleType | type)}
    for place in after.keys() - before.keys():
        owner, _, name = place.rpartition(".")
        if owner in known and _is_close(owner) and name and not isinstance(after[place], ModuleType):
            return place
    return ""


def _of_module(name: str, module: ModuleType) -> Iterator[tuple[str, object]]:
    close = _is_close(name)
    for key, value in list(vars(module).items()):
        place = f"{name}.{key}"
        if (
            (key.startswith("_") and not callable(value) and not close)
            or place in _OWN_STATE
            or key == "__warningregistry__"
        ):
            continue
        yield place, value
        if isinstance(value, FunctionType):
            yield f"{place}.__code__", value.__code__
        elif isinstance(value, type) and value.__module__ == name:
            yield from _of_class(place, value)


def _of_class(place: str, of: type) -> Iterator[tuple[str, object]]:
    for key, value in list(vars(of).items()):
        if key.startswith("__") and not callable(value):
            continue
        yield f"{place}.{key}", value
        if isinstance(value, FunctionType):
            yield f"{place}.{key}.__code__", value.__code__


def _is_close(module: str) -> bool:
    return module.partition(".")[0] in _CLOSELY
