"""Tool calls: which tool a request forces, and arguments that satisfy its schema. Pure; reads both APIs' forms."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from loadtests.sim.simpod.script import ApiError, Body, encode
from loadtests.sim.simpod.text import answer_text

_VALUES: Mapping[str, object] = {"integer": 7, "number": 0.5, "boolean": True, "array": [], "object": {}, "null": None}


class ToolCall(NamedTuple):
    """A call the answer consists of."""

    name: str
    arguments: bytes
    """JSON text."""


def forced_call(body: Body, seed: int) -> ToolCall | None:
    """The call that `tool_choice` forces, or None if the answer is text. ApiError if it names an unknown tool."""
    tools = body.get("tools")
    named = _named(body.get("tool_choice"))
    if not isinstance(tools, list) or not tools or named is None:
        return None
    functions = [_function(tool) for tool in tools]
    wanted = [one for one in functions if one.get("name") == named or named == ""]
    if not wanted:
        raise ApiError(400, f"Tool '{named}' has not been passed in `tools`.", param="tool_choice")
    schema = wanted[0].get("parameters") or wanted[0].get("input_schema")
    arguments = _example(schema if isinstance(schema, dict) else {}, seed)
    return ToolCall(str(wanted[0].get("name")), encode(arguments))


def _named(choice: object) -> str | None:
    """The tool a choice forces: its name, "" for any one, None for no force."""
    if choice == "required":
        return ""
    if not isinstance(choice, Mapping):
        return None
    if choice.get("type") == "any":
        return ""
    function = choice.get("function")
    named = function.get("name") if isinstance(function, Mapping) else choice.get("name")
    return named if isinstance(named, str) else None


def _function(tool: object) -> Mapping[str, object]:
    """OpenAI wraps a tool's function, Anthropic does not."""
    if not isinstance(tool, Mapping):
        raise ApiError(400, "each tool is an object", param="tools")
    function = tool.get("function")
    return function if isinstance(function, Mapping) else tool


def _example(schema: Mapping[str, object], seed: int) -> dict[str, object]:
    properties = schema.get("properties")
    if not isinstance(properties, Mapping):
        return {}
    return {str(name): _value(kind, seed) for name, kind in properties.items()}


def _value(schema: object, seed: int) -> object:
    if not isinstance(schema, Mapping):
        return None
    choices = schema.get("enum")
    if isinstance(choices, list) and choices:
        return choices[seed % len(choices)]
    kind = schema.get("type")
    return _VALUES[kind] if isinstance(kind, str) and kind in _VALUES else answer_text(seed, 2).decode().strip()
