from typing import Any

import jsonschema  # type: ignore[import-untyped, unused-ignore]
import pytest

from loadtests.sim.simpod.json_examples import NoExample, example
from loadtests.sim.simpod.regex_examples import NoMatch

NODE = {
    "type": "object",
    "properties": {
        "next": {"anyOf": [{"$ref": "#/$defs/node"}, {"type": "null"}]},
        "kids": {"type": "array", "items": {"$ref": "#/$defs/node"}},
    },
    "required": ["next", "kids"],
    "additionalProperties": False,
}
A, B = ({"type": "object", "properties": {"k": {"const": name}}, "required": ["k"]} for name in "ab")

SCHEMAS: dict[str, Any] = {
    "an object": {"type": "object", "properties": {"a": {"type": "integer"}, "b": {"enum": ["x", 2]}}},
    "required without a schema": {"type": "object", "required": ["z"]},
    "more properties": {"type": "object", "additionalProperties": {"type": "integer"}, "minProperties": 2},
    "one number only": {"type": "integer", "minimum": 3, "maximum": 3},
    "between two halves": {"type": "integer", "minimum": 0.5, "maximum": 1.5},
    "exclusive bounds": {"type": "integer", "exclusiveMinimum": 0, "exclusiveMaximum": 3},
    "a small range": {"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 0.001},
    "no upper bound": {"type": "number", "exclusiveMinimum": 5},
    "no lower bound": {"type": "number", "maximum": -3.5},
    "negative integers": {"type": "integer", "maximum": -3},
    "multiples": {"type": "integer", "multipleOf": 7, "minimum": 100},
    "multiples of a fraction": {"type": "number", "multipleOf": 0.5, "minimum": 0.3},
    "a short string": {"type": "string", "maxLength": 2},
    "a long string": {"type": "string", "minLength": 100},
    "no string at all": {"type": "string", "maxLength": 0},
    "a pattern": {"type": "string", "pattern": r"^\d{4}-[A-F]{2}$"},
    "a date": {"type": "string", "format": "date"},
    "an array": {"type": "array", "items": {"type": "string"}, "minItems": 2, "maxItems": 3},
    "an empty array": {"type": "array", "items": {"type": "string"}, "maxItems": 0},
    "different items": {"type": "array", "items": {"enum": [1, 2, 3]}, "minItems": 3, "uniqueItems": True},
    "a tuple": {"type": "array", "prefixItems": [{"type": "string"}, {"type": "integer"}], "items": False},
    "several types": {"type": ["integer", "null", "string"]},
    "no type, but properties": {"properties": {"a": {"type": "boolean"}}, "required": ["a"]},
    "all of": {"allOf": [A, {"properties": {"b": {"type": "boolean"}}, "required": ["b"]}]},
    "any of": {"anyOf": [A, B]},
    "one of": {"oneOf": [A, B]},
    "a null": {"type": "null"},
    "a constant": {"const": {"a": [1]}},
    "anything": {},
    "recursion": {"$defs": {"node": NODE}, "$ref": "#/$defs/node"},
    "a reference with more beside it": {"definitions": {"a": A}, "$ref": "#/definitions/a", "title": "x"},
}


@pytest.mark.parametrize("named", SCHEMAS)
def test_every_value_matches_its_schema(named: str) -> None:
    """Case G 36: structured output that matches the schema."""
    validator = jsonschema.Draft202012Validator(SCHEMAS[named])
    for seed in range(40):
        validator.validate(example(SCHEMAS[named], seed))


def test_the_seed_decides_and_decides_alike() -> None:
    found = [example(SCHEMAS["an object"], seed) for seed in range(20)]
    assert found == [example(SCHEMAS["an object"], seed) for seed in range(20)]
    assert len({str(one) for one in found}) > 10


@pytest.mark.parametrize(
    "schema",
    [
        {"enum": []},
        {"type": "odd"},
        {"$ref": "#/$defs/nope"},
        {"$ref": "http://example.com/other"},
        {"$ref": "#"},
        {"type": "integer", "minimum": 3, "maximum": 2},
        {"type": "number", "exclusiveMinimum": 3, "maximum": 3},
        {"type": "integer", "minimum": 0.2, "maximum": 0.8},
        {"type": "array", "items": {"const": 1}, "minItems": 2, "uniqueItems": True},
        {"type": "object", "properties": {"a": {"$ref": "#"}}, "required": ["a"]},
        {"type": "object", "properties": {"a": 3}},
        {"type": "array", "minItems": 10**9},
        {"type": "string", "minLength": 10**9},
        {"type": "string", "pattern": "a{1000000000}"},
    ],
)
def test_a_schema_that_nothing_matches_is_refused(schema: object) -> None:
    with pytest.raises((NoExample, NoMatch)):
        example(schema, 1)
