from typing import Any

import msgspec
import pytest

from loadtests.sim.simpod.errors import ApiError
from loadtests.sim.simpod.tools import Tool, call_of

SCHEMA = {
    "type": "object",
    "properties": {"unit": {"type": "string", "enum": ["c", "f"]}, "count": {"type": "integer"}},
}
TOOLS = [Tool("look", None), Tool("weather", SCHEMA)]


@pytest.mark.parametrize(("choice", "name", "named"), [("required", "look", False), ("=weather", "weather", True)])
def test_a_forced_tool_is_called(choice: str, name: str, named: bool) -> None:
    call = call_of(TOOLS, choice, [], seed=3)
    assert call is not None
    assert (call.name, call.named) == (name, named)


def test_the_arguments_match_the_schema() -> None:
    call = call_of(TOOLS, "=weather", [], seed=3)
    assert call is not None
    arguments: dict[str, Any] = msgspec.json.decode(call.arguments)
    assert arguments["unit"] in ("c", "f") and isinstance(arguments["count"], int)


@pytest.mark.parametrize(
    ("content", "name"),
    [
        ("call weather, please", "weather"),
        ([{"type": "text", "text": "context"}, {"type": "text", "text": "call look."}], "look"),
        ("please call weather", None),
        ("call nothing", None),
        ("call ", None),
        (None, None),
    ],
)
def test_with_auto_a_tool_is_called_if_the_last_message_begins_so(content: object, name: str | None) -> None:
    call = call_of(TOOLS, "auto", [{"role": "user", "content": content}], seed=3)
    assert (call and call.name) == name
    assert call_of(TOOLS, "none", [{"role": "user", "content": content}], seed=3) is None
    assert call_of(TOOLS, "auto", [{"role": "tool", "content": content}], seed=3) is None


@pytest.mark.parametrize(
    ("tools", "choice"),
    [(TOOLS, "=nope"), ([Tool("odd", {"type": "object", "properties": {"a": {"enum": []}}})], "required")],
)
def test_an_unknown_tool_and_a_schema_that_nothing_matches_are_errors(tools: list[Tool], choice: str) -> None:
    with pytest.raises(ApiError):
        call_of(tools, choice, [], seed=3)
