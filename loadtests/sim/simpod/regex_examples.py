"""Strings that match a regular expression, as short as it allows. Pure; the seed decides between branches.

The expression is read by the standard library's own parser, whose tree is walked. Look-arounds and references to
groups are refused, as the grammars of real engines refuse them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from re import _constants as op  # type: ignore[attr-defined]
from re import _parser as parser  # type: ignore[attr-defined]
from typing import Any

_PRINTABLE = [chr(code) for code in range(0x20, 0x7F)]
_READABLE = sorted(_PRINTABLE, key=lambda char: (not char.isalpha(), not char.isalnum(), char))
"""Letters first, then digits, then the rest: the first one that fits is taken."""
_CATEGORIES: Mapping[Any, Callable[[str], bool]] = {
    op.CATEGORY_DIGIT: str.isdigit,
    op.CATEGORY_NOT_DIGIT: lambda char: not char.isdigit(),
    op.CATEGORY_WORD: lambda char: char.isalnum() or char == "_",
    op.CATEGORY_NOT_WORD: lambda char: not (char.isalnum() or char == "_"),
    op.CATEGORY_SPACE: str.isspace,
    op.CATEGORY_NOT_SPACE: lambda char: not char.isspace(),
}


_MOST_CHARACTERS = 100_000
"""Of a string; longer ones are refused before they are made."""


class NoMatch(ValueError):
    """An expression that is invalid, or that this does not understand."""


def matching(pattern: str, seed: int = 0, least: int = 0) -> str:
    """A string in which the pattern matches from the start to the end, of `least` characters if it can be so long."""
    try:
        tree = parser.parse(pattern)
    except (re.error, RecursionError, OverflowError) as error:
        raise NoMatch(f"{pattern!r} is no regular expression: {error}") from None
    short = _walk(tree, seed, 0)
    return short if len(short) >= least else _walk(tree, seed, least)


def _walk(tree: Any, seed: int, least: int) -> str:
    made = "".join(_one(kind, value, seed, least) for kind, value in tree)
    if len(made) > _MOST_CHARACTERS:
        raise NoMatch(f"a string that matches has more than {_MOST_CHARACTERS} characters")
    return made


def _one(kind: Any, value: Any, seed: int, least: int) -> str:
    if kind is op.LITERAL:
        return chr(value)
    if kind in (op.MAX_REPEAT, op.MIN_REPEAT, op.POSSESSIVE_REPEAT):
        low, high, inner = value
        times = min(max(low, 1 if low == 0 and not least else low, least), high if high is not op.MAXREPEAT else 10**4)
        if times > _MOST_CHARACTERS:
            raise NoMatch(f"{times} repeats are too many")
        return "".join(_walk(inner, seed + at, 0) for at in range(times))
    if kind is op.BRANCH:
        branches = value[1]
        return _walk(branches[seed % len(branches)], seed, least)
    if kind is op.SUBPATTERN:
        return _walk(value[-1], seed, least)
    if kind is op.ATOMIC_GROUP:
        return _walk(value, seed, least)
    if kind is op.AT:
        return ""
    return _character(kind, value, seed)


def _character(kind: Any, value: Any, seed: int) -> str:
    if kind is op.ANY:
        fitting: Sequence[str] = _READABLE
    elif kind is op.NOT_LITERAL:
        fitting = [char for char in _READABLE if ord(char) != value]
    elif kind is op.IN:
        fitting = _of_set(value)
    else:
        raise NoMatch(f"{str(kind).lower()} is not supported in a pattern")
    if not fitting:
        raise NoMatch("a set of characters has no printable one")
    return fitting[seed % min(len(fitting), 26)]


def _of_set(parts: Any) -> list[str]:
    negated = parts[0][0] is op.NEGATE
    inside = [char for char in _READABLE if any(_fits(char, *part) for part in parts[negated:])]
    if negated:
        return [char for char in _READABLE if char not in inside]
    return inside or [
        chr(value if kind is op.LITERAL else value[0]) for kind, value in parts if kind is not op.CATEGORY
    ]


def _fits(char: str, kind: Any, value: Any) -> bool:
    if kind is op.LITERAL:
        return bool(ord(char) == value)
    if kind is op.RANGE:
        return bool(value[0] <= ord(char) <= value[1])
    return _CATEGORIES[value](char)
