"""Builds a part of a composed policy from its spec, `{"name": "queue", ...}`; the other keys are its parameters.

A part is a frozen dataclass whose fields are its parameters, as with a policy. Each mistake in a spec is noted with its
place (`params.scorers[1].half_s`), so that one does not hide the next. Knows no part.
"""

from __future__ import annotations

import dataclasses
import difflib
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol, TypeVar

from schedulers.errors import InvalidParams


class Part(Protocol):
    """Anything with a name in specs."""

    @property
    def name(self) -> str:
        """Its name in a spec."""
        ...


_P = TypeVar("_P", bound=Part)


class _Kind(NamedTuple):
    words: str
    fits: Callable[[object], bool]


def _is_number(value: object) -> bool:
    # True is an int to Python, but `weight: true` in a file is a slip.
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _is_texts(value: object) -> bool:
    return isinstance(value, list | tuple) and all(isinstance(item, str) for item in value)


_KINDS: Mapping[str, _Kind] = {
    "int": _Kind("a whole number", lambda value: _is_number(value) and isinstance(value, int)),
    "float": _Kind("a number", _is_number),
    "bool": _Kind("true or false", lambda value: isinstance(value, bool)),
    "str": _Kind("a text", lambda value: isinstance(value, str)),
    "tuple[str, ...]": _Kind("a list of texts", _is_texts),
}
"""By the source text of a field's type: all that `from __future__ import annotations` keeps of it."""


def texts(*default: str) -> tuple[str, ...]:
    """A part's field that is a list of texts."""
    field: tuple[str, ...] = dataclasses.field(default=default)
    return field


class Specs:
    """Reads specs and notes the mistakes in them."""

    def __init__(self) -> None:
        self.problems: list[str] = []

    def refuse(self, policy: str) -> None:
        """Raises InvalidParams with all mistakes noted, if there are any."""
        if self.problems:
            raise InvalidParams(f"{policy}: {'; '.join(self.problems)}")

    def listed(self, where: str, value: object) -> Sequence[object]:
        """The items of a list."""
        if isinstance(value, list | tuple):
            return value
        self.problems.append(f"{where} must be a list, not {value!r}")
        return ()

    def number(self, where: str, value: object, low: float, high: float) -> float:
        """A number in a range; `low` if it is none."""
        if _is_number(value) and low <= value <= high:  # type: ignore[operator]
            return float(value)  # type: ignore[arg-type]
        self.problems.append(f"{where} must be {_wanted('a number', low, high)}, not {value!r}")
        return low

    def part(
        self, kind: str, table: Mapping[str, type[_P]], where: str, spec: object, also: Sequence[str] = ()
    ) -> _P | None:
        """The part of this kind that the spec names; None, and a mistake noted, if it cannot be built.

        `also`: keys that the spec may have beside the part's own, for the caller to read.
        """
        if not isinstance(spec, Mapping):
            self.problems.append(f"{where} must be a mapping with a name, not {spec!r}")
            return None
        name = spec.get("name")
        if not isinstance(name, str) or name not in table:
            problem = f"no {kind} {name!r}{_hint(name, table)}" if "name" in spec else f"which {kind}?"
            self.problems.append(f"{where}.name: {problem}; there are: {', '.join(table)}")
            return None
        given = {key: value for key, value in spec.items() if key != "name" and key not in also}
        return self._made(table[name], where, given, also)

    def _made(self, part: type[_P], where: str, given: Mapping[Any, object], also: Sequence[str]) -> _P | None:
        declared: Any = part  # every part is a dataclass
        fields = {field.name.rstrip("_"): field for field in dataclasses.fields(declared) if field.init}
        before = len(self.problems)
        for key, value in given.items():
            if key not in fields:
                takes = ", ".join([*fields, *also]) or "no parameters"
                self.problems.append(f"{where}.{key} is unknown{_hint(key, fields)}; {part.name} takes {takes}")
            elif problem := _refusal(fields[key], value):
                self.problems.append(f"{where}.{key} {problem}")
        if len(self.problems) > before:
            return None
        try:
            return part(**{fields[key].name: tuple(v) if isinstance(v, list) else v for key, v in given.items()})
        except ValueError as error:
            self.problems.append(f"{where}: {error}")
            return None


def _refusal(field: dataclasses.Field[Any], value: object) -> str:
    kind, low, high = _KINDS[str(field.type)], field.metadata.get("low"), field.metadata.get("high")
    fits = kind.fits(value)
    if fits and isinstance(value, int | float):
        fits = (low is None or value >= low) and (high is None or value <= high)
    return "" if fits else f"must be {_wanted(kind.words, low, high)}, not {value!r}"


def _wanted(words: str, low: float | None, high: float | None) -> str:
    least = "" if low is None else f" from {low:g}"
    return f"{words}{least}{'' if high is None else f' up to {high:g}'}"


def _hint(name: object, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(str(name)[:64].lower().replace("-", "_"), list(known), 1)
    return f" (did you mean {near[0]!r}?)" if near else ""
