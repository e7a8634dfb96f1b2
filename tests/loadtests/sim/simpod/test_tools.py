from typing import Any

import msgspec
import pytest

from loadtests.sim.simpod.script import ApiError
from loadtests.sim.simpod.tools import forced_call

SCHEMA = {
    "type": "object",
    "properties": {
        "unit": {"type": "string", "enum": ["c", "f"]},
        "count": {"type": "integer"},
        "exact": {"type": "boolean"},
        "any": {"type": ["string", "null"]},
    },
}
OPENAI = {"type": "function", "function": {"name": "weather", "parameters": SCHEMA}}
ANTHROPIC = {"name": "weather", "input_schema": SCHEMA}


@pytest.mark.parametrize(
    ("tool", "choice"),
    [
        (OPENAI, "required"),
        (OPENAI, {"type": "function", "function": {"name": "weather"}}),
        (ANTHROPIC, {"type": "any"}),
        (ANTHROPIC, {"type": "tool", "name": "weather"}),
    ],
)
def test_a_forced_call_matches_the_schema_in_both_spellings(tool: object, choice: object) -> None:
    call = forced_call({"tools": [tool], "tool_choice": choice}, seed=3)
    assert call is not None and call.name == "weather"
    arguments: dict[str, Any] = msgspec.json.decode(call.arguments)
    assert arguments["unit"] in ("c", "f")
    assert (arguments["count"], arguments["exact"]) == (7, True)


@pytest.mark.parametrize("choice", [None, "auto", "none", {"type": "auto"}, 3])
def test_without_force_there_is_no_call(choice: object) -> None:
    assert forced_call({"tools": [OPENAI], "tool_choice": choice}, seed=3) is None


@pytest.mark.parametrize("tools", [[OPENAI], ["x"]])
def test_forcing_an_unknown_tool_is_an_error(tools: object) -> None:
    with pytest.raises(ApiError):
        forced_call({"tools": tools, "tool_choice": {"type": "tool", "name": "other"}}, seed=3)
