"""Tool calls: which tool a request gets called, and arguments that satisfy its schema. Pure; all three APIs' forms.

A forced call is always made. With `auto` the model answers in text, because an agent acts on every call;
only a last message that begins with `call NAME` gets that tool called, for those who want to see a call.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from loadtests.sim.simpod.errors import rejected
from loadtests.sim.simpod.forms import formed, schema_form
from loadtests.sim.simpod.text import content_text

_CUE = "call "


class Tool(NamedTuple):
    """A tool as it was given, whichever the API."""

    name: str
    schema: Mapping[str, Any] | None


class ToolCall(NamedTuple):
    """A call the answer consists of."""

    name: str
    arguments: bytes
    """JSON text."""
    named: bool = False
    """The request named this tool, which OpenAI's finish reason depends on."""


def call_of(tools: Sequence[Tool], choice: str, messages: Sequence[object], seed: int) -> ToolCall | None:
    """The call to make. `choice` is `none`, `auto`, `required` or, after a `=`, a tool's name.

    ApiError if the tool is unknown or its schema cannot be satisfied.
    """
    if not tools or choice == "none":
        return None
    named = choice.startswith("=")
    wanted = choice[1:] if named else tools[0].name if choice == "required" else _cued(messages)
    found = next((tool for tool in tools if tool.name == wanted), None)
    if found is None:
        if named:
            message = "The tool specified in `tool_choice` does not match any of the specified `tools`"
            raise rejected(message, "tool_choice")
        return None
    schema = dict(found.schema or {})
    if schema.get("type", "object") == "object":
        schema["type"] = "object"
    form = schema_form(schema)
    return ToolCall(found.name, formed(form, seed).encode(), named)


def _cued(messages: Sequence[object]) -> str | None:
    """The tool that the last message asks for by its first words."""
    last = messages[-1] if messages else None
    if not isinstance(last, Mapping) or last.get("role") not in (None, "user"):
        return None
    content = last.get("content")
    text = content_text(content[-1:] if isinstance(content, list) else content)
    named = text[len(_CUE) :].split(maxsplit=1) if text.startswith(_CUE) else []
    return named[0].rstrip(".,:;!") if named else None
