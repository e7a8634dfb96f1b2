"""The state of a module as texts that can be compared: its globals, its classes' attributes, its functions' defaults
and closed-over variables, and the fields of a policy made from it. A policy without state changes none of it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import FunctionType, ModuleType
from typing import Final

_DEPTH: Final = 6
_MOST: Final = 4000
"""Entries of one container that are compared."""


def state_of(module: ModuleType, policies: Mapping[str, object]) -> dict[str, str]:
    """Text by place: `Mine.seen`, `_last`, `pick.__defaults__`."""
    found: dict[str, str] = {}
    for name, value in vars(module).items():
        if not name.startswith("__"):
            found |= dict(_of(name, value, module.__name__))
    for name, policy in policies.items():
        found[f"a field of {name}"] = _text(_fields(policy))
    return found


def first_difference(before: Mapping[str, str], after: Mapping[str, str]) -> str:
    """The first place that differs; empty if none does."""
    for place in {**before, **after}:
        if before.get(place) != after.get(place):
            return place
    return ""


def _of(name: str, value: object, module: str) -> Iterator[tuple[str, str]]:
    """The state in one global of the module, unless another module defines it."""
    if isinstance(value, ModuleType) or (
        hasattr(value, "__module__") and value.__module__ != module and callable(value)
    ):
        return
    if isinstance(value, FunctionType):
        yield from _of_function(name, value)
    elif isinstance(value, type):
        for key, each in vars(value).items():
            function = each.__func__ if isinstance(each, staticmethod | classmethod) else each
            if isinstance(function, FunctionType):
                yield from _of_function(f"{name}.{key}", function)
            elif not key.startswith("__"):
                yield f"{name}.{key}", _text(each)
    else:
        yield name, _text(value)


def _of_function(name: str, function: FunctionType) -> Iterator[tuple[str, str]]:
    for place in ("__defaults__", "__kwdefaults__", "__dict__"):
        yield f"{name}.{place}", _text(getattr(function, place))
    for cell_name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        try:
            yield f"{cell_name} of {name}", _text(cell.cell_contents)
        except ValueError:  # not assigned yet
            continue


def _fields(thing: object) -> dict[str, object]:
    slots = [slot for kind in type(thing).__mro__ for slot in getattr(kind, "__slots__", ())]
    return {**getattr(thing, "__dict__", {}), **{slot: getattr(thing, slot, None) for slot in slots}}


def _text(value: object, depth: int = _DEPTH) -> str:
    """Built-in values and containers in full, other objects by their fields; addresses are left out."""
    if value is None or isinstance(value, bool | int | float | complex | str | bytes | bytearray):
        return repr(value)
    if depth == 0:
        return "..."
    if isinstance(value, Mapping):
        items = [f"{_text(key, depth - 1)}: {_text(each, depth - 1)}" for key, each in list(value.items())[:_MOST]]
        return f"{len(value)} {{{', '.join(items)}}}"
    if isinstance(value, set | frozenset):
        return f"{len(value)} {sorted(_text(each, depth - 1) for each in list(value)[:_MOST])}"
    if isinstance(value, list | tuple):
        return f"{len(value)} [{', '.join(_text(each, depth - 1) for each in value[:_MOST])}]"
    if isinstance(value, type | FunctionType | ModuleType) or callable(value):
        return type(value).__name__
    return f"{type(value).__name__} {_text(_fields(value), depth - 1)}" if _fields(value) else _represented(value)


def _represented(value: object) -> str:
    """The `repr` of a deque, an array, a counter and the like, unless it is only an address."""
    try:
        text = repr(value)
    except Exception:  # noqa: BLE001  foreign code
        return type(value).__name__
    return type(value).__name__ if " at 0x" in text else text
