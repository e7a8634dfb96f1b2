"""Values that match a JSON schema: what a constrained answer consists of. Pure; the seed decides between values.

It covers the keywords that function parameters and response formats use, local references included. Known libraries
draw from a random source, need a test framework, or leave `pattern` and recursion out; this is small enough to own,
and its tests compare each value with a real validator. Of `not`, `if` and `dependentSchemas` it knows nothing: there
the value may not match.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import xxhash

from loadtests.sim.simpod.regex_examples import matching
from loadtests.sim.simpod.text import answer_text

_DEEP = 6
"""Levels from which on only what is required is made, so that recursive schemas end."""
_TOO_DEEP = 64
_MOST = 100_000
"""Of characters, items or properties that a schema may require."""
_FORMATS: Mapping[str, str] = {
    "date-time": "2026-05-04T03:02:01Z",
    "date": "2026-05-04",
    "time": "03:02:01Z",
    "duration": "P1DT2H",
    "email": "ann@example.com",
    "idn-email": "ann@example.com",
    "hostname": "host.example.com",
    "ipv4": "192.0.2.7",
    "ipv6": "2001:db8::7",
    "uri": "https://example.com/a",
    "iri": "https://example.com/a",
    "uri-reference": "/a",
    "url": "https://example.com/a",
    "uuid": "0b8a6f0c-5f3e-4c1d-9a7b-2d6e8f1a3c5b",
    "json-pointer": "/a",
    "regex": "^a$",
    "byte": "YQ==",
}


class NoExample(ValueError):
    """A schema that nothing matches, or that is not understood; the message says where."""


def example(schema: object, seed: int) -> Any:
    """A value that matches the schema. NoExample if there is none or the schema is not understood."""
    return _Maker(schema, seed).value(schema, 0)


class _Maker:
    def __init__(self, root: object, seed: int) -> None:
        self._root, self._seed, self._made = root, seed, 0

    def _choose(self, count: int) -> int:
        self._made += 1
        return xxhash.xxh3_64_intdigest(b"%d" % self._made, self._seed) % count

    def value(self, schema: object, depth: int) -> Any:
        """A value for a schema at that depth."""
        if depth > _TOO_DEEP:
            raise NoExample("the schema is nested too deeply")
        if schema is True or schema == {}:
            return self._string({})
        if not isinstance(schema, Mapping):
            raise NoExample(f"a schema is an object, not {schema!r}")
        if any(schema.get(field, 0) > _MOST for field in ("minLength", "minItems", "minProperties")):
            raise NoExample(f"more than {_MOST} characters, items or properties are required")
        schema = self._flat(schema, depth)
        if "const" in schema:
            return schema["const"]
        choices = schema.get("enum")
        if isinstance(choices, list):
            if not choices:
                raise NoExample("enum is empty")
            return choices[self._choose(len(choices))]
        return _MAKERS[self._kind(schema, depth)](self, schema, depth)

    def _flat(self, schema: Mapping[str, Any], depth: int) -> Mapping[str, Any]:
        """The schema with references followed, allOf merged, and one branch of anyOf and oneOf chosen."""
        for _ in range(_TOO_DEEP):
            rest = dict(schema)
            if "$ref" in rest:
                schema = _merged(self._referred(rest.pop("$ref")), rest)
            elif rest.get("allOf"):
                parts = rest.pop("allOf")
                for part in parts:
                    rest = _merged(rest, self._flat(part, depth))
                schema = rest
            elif branches := rest.pop("anyOf", None) or rest.pop("oneOf", None):
                schema = _merged(rest, self._branch(branches, depth))
            else:
                return schema
        raise NoExample("references lead in a circle")

    def _branch(self, branches: list[Any], depth: int) -> Mapping[str, Any]:
        """A branch that leads no deeper, where the value is deep already; else any."""
        if depth >= _DEEP:
            plain = [one for one in branches if not ({"$ref", "properties", "items"} & set(one))]
            branches = plain or branches
        found = branches[self._choose(len(branches))]
        return found if isinstance(found, Mapping) else {}

    def _referred(self, reference: str) -> Mapping[str, Any]:
        if not reference.startswith("#"):
            raise NoExample(f"only references inside the schema are followed, not {reference}")
        found: Any = self._root
        for part in reference[1:].split("/"):
            if part:
                try:
                    found = found[part.replace("~1", "/").replace("~0", "~")]
                except (KeyError, TypeError):
                    raise NoExample(f"{reference} is not in the schema") from None
        return found if isinstance(found, Mapping) else {}

    def _kind(self, schema: Mapping[str, Any], depth: int) -> str:
        kind = schema.get("type")
        if isinstance(kind, list) and kind:
            plain = [one for one in kind if one not in ("object", "array")] if depth >= _DEEP else kind
            kind = (plain or kind)[self._choose(len(plain or kind))]
        if kind is None:
            kind = next((kind for field, kind in _IMPLIED if field in schema), "string")
        if kind not in _MAKERS:
            raise NoExample(f"type {kind!r} is unknown")
        return str(kind)

    def _object(self, schema: Mapping[str, Any], depth: int) -> dict[str, Any]:
        properties = schema.get("properties") or {}
        required = schema.get("required") or []
        wanted = [name for name in properties if depth < _DEEP or name in required]
        made = {name: self.value(properties[name], depth + 1) for name in wanted}
        others = schema.get("additionalProperties", True)
        for name in required:
            if name not in made:
                made[name] = self.value(others if others is not False else True, depth + 1)
        while len(made) < schema.get("minProperties", 0):
            made[f"key{len(made)}"] = self.value(others, depth + 1)
        return made

    def _array(self, schema: Mapping[str, Any], depth: int) -> list[Any]:
        first = schema.get("prefixItems") or []
        items = schema.get("items", True)
        if isinstance(items, list):  # the spelling of drafts before 2020-12
            first, items = items, schema.get("additionalItems", True)
        least, most = schema.get("minItems", 0), schema.get("maxItems", math.inf)
        wanted = min(max(least, len(first), 0 if depth >= _DEEP else 1), most)
        if items is False:
            wanted = min(wanted, len(first))
        made: list[Any] = []
        for _ in range(int(wanted) * 16):
            if len(made) >= wanted:
                break
            value = self.value(first[len(made)] if len(made) < len(first) else items, depth + 1)
            if not schema.get("uniqueItems") or value not in made:
                made.append(value)
        if len(made) < least:
            raise NoExample(f"no {least} different items were found")
        return made

    def _string(self, schema: Mapping[str, Any], _: int = 0) -> str:
        if "pattern" in schema:
            return matching(schema["pattern"], self._seed, schema.get("minLength", 0))
        if schema.get("format") in _FORMATS:
            return _FORMATS[schema["format"]]
        least, most = schema.get("minLength", 0), schema.get("maxLength", math.inf)
        words = answer_text(xxhash.xxh3_64_intdigest(b"%d" % self._choose(2**32)), 2 + least // 4).decode().strip()
        return words.ljust(least, "x")[: int(min(most, max(7, least)))]

    def _integer(self, schema: Mapping[str, Any], _: int) -> int:
        value = self._multiple(schema, schema.get("multipleOf", 1))
        if value != int(value):
            raise NoExample("no integer is in that range")
        return int(value)

    def _number(self, schema: Mapping[str, Any], _: int) -> float:
        if "multipleOf" in schema:
            return self._multiple(schema, schema["multipleOf"])
        low, high, open_below, open_above = _range(schema)
        if low > high or (low == high and (open_below or open_above)):
            raise NoExample(f"no number is between {low} and {high}")
        apart = 1 + self._choose(62)
        if high == math.inf:
            return (0.0 if low == -math.inf else low) + apart / 2
        return high - apart / 2 if low == -math.inf else low + (high - low) * apart / 64

    def _multiple(self, schema: Mapping[str, Any], step: float) -> float:
        low, high, open_below, open_above = _range(schema)
        first = -math.inf if low == -math.inf else math.ceil(low / step)
        last = math.inf if high == math.inf else math.floor(high / step)
        first += open_below and first * step == low
        last -= open_above and last * step == high
        if first == -math.inf:
            first = min(0, last) if last < 100 else 0
        if first > last:
            raise NoExample(f"no multiple of {step} is between {low} and {high}")
        return (first + self._choose(int(min(last - first, 99)) + 1)) * step


_Make = Callable[[_Maker, Mapping[str, Any], int], Any]
_MAKERS: Mapping[str, _Make] = {
    "object": _Maker._object,
    "array": _Maker._array,
    "string": _Maker._string,
    "integer": _Maker._integer,
    "number": _Maker._number,
    "boolean": lambda maker, schema, depth: bool(maker._choose(2)),
    "null": lambda maker, schema, depth: None,
}
_IMPLIED = (
    ("properties", "object"),
    ("required", "object"),
    ("additionalProperties", "object"),
    ("items", "array"),
    ("prefixItems", "array"),
    ("minimum", "number"),
    ("maximum", "number"),
    ("multipleOf", "number"),
)
"""What a schema without a type means by its other keywords."""


def _range(schema: Mapping[str, Any]) -> tuple[float, float, bool, bool]:
    """The bounds, and whether each is excluded, in the spelling of this draft or the older one."""
    low, high = schema.get("minimum", -math.inf), schema.get("maximum", math.inf)
    below, above = schema.get("exclusiveMinimum", False), schema.get("exclusiveMaximum", False)
    if not isinstance(below, bool):
        low, below = max(low, below), below >= low
    if not isinstance(above, bool):
        high, above = min(high, above), above <= high
    return low, high, below, above


def _merged(one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    """Both schemas at once: properties and required names of both, else the second one's keywords."""
    both = {**one, **other}
    if "properties" in one and "properties" in other:
        both["properties"] = {**one["properties"], **other["properties"]}
    if "required" in one and "required" in other:
        both["required"] = list(dict.fromkeys([*one["required"], *other["required"]]))
    return both
