from typing import Any

import msgspec
import pytest

from loadtests.sim.engine.profiles import PROFILES
from loadtests.sim.simpod.anthropic import messages
from loadtests.sim.simpod.script import ApiError, PodSpec, Script

SPEC = PodSpec("pod-1", ("tiny",), PROFILES["tiny"])
ASK = {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 3, "ignore_eos": True}
TOOLS = {
    "tools": [{"name": "look", "input_schema": {"type": "object", "properties": {"at": {"type": "string"}}}}],
    "tool_choice": {"type": "any"},
}


def events(script: Script) -> list[tuple[str, Any]]:
    stream = script.stream
    assert stream is not None
    tokens = [stream.before + piece + stream.after for piece in script.pieces]
    parsed = []
    for event in [*stream.opening(16), *tokens, *stream.closing(16)]:
        name, _, data = event.removeprefix(b"event: ").partition(b"\ndata: ")
        parsed.append((name.decode(), msgspec.json.decode(data)))
    return parsed


def test_a_stream_has_the_events_in_the_documented_order() -> None:
    named = events(messages(ASK | {"stream": True}, SPEC))
    assert [name for name, _ in named] == [
        "message_start",
        "content_block_start",
        *["content_block_delta"] * 3,
        "content_block_stop",
        "message_delta",
        "message_stop",
    ]
    assert all(name == data["type"] for name, data in named)
    assert named[0][1]["message"]["usage"]["cache_read_input_tokens"] == 16
    assert named[-2][1]["delta"]["stop_reason"] == "max_tokens"


def test_the_whole_answer_equals_the_stream() -> None:
    whole = msgspec.json.decode(messages(ASK, SPEC).whole(0))
    named = events(messages(ASK | {"stream": True}, SPEC))
    said = "".join(data["delta"]["text"] for name, data in named if name == "content_block_delta")
    assert whole["content"] == [{"type": "text", "text": said}]
    assert (whole["stop_reason"], whole["usage"]["output_tokens"]) == ("max_tokens", 3)


def test_a_forced_tool_is_used_and_streamed_as_json() -> None:
    (block,) = msgspec.json.decode(messages(ASK | TOOLS, SPEC).whole(0))["content"]
    named = events(messages(ASK | TOOLS | {"stream": True}, SPEC))
    streamed = "".join(data["delta"]["partial_json"] for name, data in named if name == "content_block_delta")
    assert (block["type"], block["name"]) == ("tool_use", "look")
    assert msgspec.json.decode(streamed) == block["input"]


@pytest.mark.parametrize("field", ["messages", "max_tokens"])
def test_a_missing_field_is_an_error_in_anthropics_shape(field: str) -> None:
    with pytest.raises(ApiError) as caught:
        messages({name: value for name, value in ASK.items() if name != field}, SPEC)
    error = msgspec.json.decode(caught.value.anthropic())
    assert (error["type"], error["error"]["type"]) == ("error", "invalid_request_error")
    assert field in error["error"]["message"]
