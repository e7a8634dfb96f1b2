"""A policy's parameters: the fields of its frozen dataclass, each with its range. Knows no policy.

Values are checked when the policy is built, so a policy with a bad parameter cannot exist.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar, dataclass_transform

from schedulers.errors import InvalidParams
from schedulers.protocols import Scheduler

_T = TypeVar("_T", int, float, bool, str)
_V = TypeVar("_V")

_KINDS: Mapping[str, tuple[type, ...]] = {"int": (int,), "float": (int, float), "bool": (bool,), "str": (str,)}


def parameter(default: _T, *, low: float | None = None, high: float | None = None) -> _T:
    """A dataclass field that is a parameter: its default, and the least and greatest value."""
    field: _T = dataclasses.field(default=default, metadata={"low": low, "high": high})
    return field


def made_by(make: Callable[[], _V], words: str) -> _V:
    """A parameter of a type of the policy's own, called `words` in messages; `make` makes its default. The policy's
    `__post_init__` checks it and derives from it the field by which policies are compared."""
    field: _V = dataclasses.field(default_factory=make, compare=False, metadata={"words": words})
    return field


@dataclass_transform(frozen_default=True)
def policy_class(declared: type[_V]) -> type[_V]:
    """As `dataclass(frozen=True, slots=True)`, for a file that mypyc compiles: it cannot compile a dataclass with
    slots, but it compiles the methods of a class with another decorator."""
    declared.__annotations__.pop("name", None)  # it also forgets that `name` is a ClassVar, which is no field
    return dataclasses.dataclass(frozen=True, slots=True)(declared)


def check(policy: Scheduler) -> None:
    """For `__post_init__`. Raises InvalidParams, which names policy, parameter, the values allowed and the one
    given."""
    for field in _fields(type(policy)):
        _check_value(type(policy), field, getattr(policy, field.name))


def build(policy: type[Scheduler], given: Mapping[str, object]) -> Scheduler:
    """A `policy` with these parameters, defaults for the rest. Raises InvalidParams."""
    if not isinstance(given, Mapping):
        raise InvalidParams(f"{_name(policy)}: params must be a mapping of names to values, not {given!r}")
    fields = {field.name: field for field in _fields(policy)}
    for name, value in given.items():
        if name not in fields:
            raise InvalidParams(f"{_name(policy)}: no parameter {name!r}; {describe(policy)}")
        _check_value(policy, fields[name], value)
    make: Callable[..., Scheduler] = policy
    try:
        return make(**given)
    except (TypeError, ValueError) as error:
        # A plugin's policy may have its own checks, and parameters without a default.
        raise InvalidParams(f"{_name(policy)}: {error}; {describe(policy)}") from error


def fingerprint(name: str, policy: Scheduler) -> str:
    """A digest of what decides: the policy and all its parameters, those left at their defaults included. Equal on two
    hosts exactly if both decide alike. `name` is the registry's, which for a plugin has the digest of its source."""
    inner: Any = policy
    while (wrapped := getattr(inner, "policy", None) or getattr(inner, "scheduler", None)) is not None:
        inner = wrapped  # a ready-made policy's own name, or a watchdog
    values = {field.name: getattr(inner, field.name) for field in _fields(type(inner))}
    values |= {field.name: float(values[field.name]) for field in _fields(type(inner)) if _kind(field) == "float"}
    said = [name if "@" in name else str(inner.name), values]
    return hashlib.sha256(json.dumps(said, sort_keys=True, default=_plain).encode()).hexdigest()[:12]


def lacks_default(policy: type[Scheduler]) -> list[str]:
    """The parameters without a default; a policy that can be named without parameters must have none."""
    missing = dataclasses.MISSING
    return [f.name for f in _fields(policy) if f.default is missing and f.default_factory is missing]


def describe(policy: type[Scheduler]) -> str:
    """The parameters in words: name, type, range and default of each."""
    fields = _fields(policy)
    if not fields:
        return "it takes no parameters"
    return "its parameters: " + ", ".join(f"{field.name} ({_wanted(field)}{_default(field)})" for field in fields)


def _check_value(policy: type[Scheduler], field: dataclasses.Field[Any], value: object) -> None:
    kinds = _KINDS.get(_kind(field))
    if kinds is None:
        return  # A type of the policy's own, which its `__post_init__` checks.
    # True is an int to Python, but `replicas: true` in a file is a slip.
    fits = isinstance(value, kinds) and (bool in kinds or not isinstance(value, bool))
    if not fits or not _in_range(field, value):
        raise InvalidParams(
            f"{_name(policy)}: parameter {field.name!r} must be {_wanted(field)}, not {value!r} "
            f"({type(value).__name__}); {describe(policy)}"
        )


def _in_range(field: dataclasses.Field[Any], value: object) -> bool:
    if not isinstance(value, int | float):
        return True
    low, high = field.metadata.get("low"), field.metadata.get("high")
    return math.isfinite(value) and (low is None or value >= low) and (high is None or value <= high)


def _wanted(field: dataclasses.Field[Any]) -> str:
    low, high = field.metadata.get("low"), field.metadata.get("high")
    words = [field.metadata.get("words") or _kind(field)]
    if low is not None:
        words.append(f"from {low}")
    if high is not None:
        words.append(f"up to {high}")
    return " ".join(words)


def _default(field: dataclasses.Field[Any]) -> str:
    if field.default_factory is not dataclasses.MISSING:
        return f", default {field.default_factory()!r}"
    return "" if field.default is dataclasses.MISSING else f", default {field.default!r}"


def _kind(field: dataclasses.Field[Any]) -> str:
    # Under `from __future__ import annotations` the type of a field is its source text.
    return str(getattr(field.type, "__name__", field.type))


def _fields(policy: type[Scheduler]) -> list[dataclasses.Field[Any]]:
    declared: Any = policy  # The registry lets only dataclasses in.
    return [field for field in dataclasses.fields(declared) if field.init]


def _plain(value: object) -> object:
    """A parameter that JSON has no form for."""
    if isinstance(value, Mapping):
        return dict(value)
    return list(value) if isinstance(value, Sequence) else repr(value)


def _name(policy: type[Scheduler]) -> str:
    return str(getattr(policy, "name", policy.__name__))
