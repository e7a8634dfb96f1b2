import msgspec
import pytest

from loadtests.sim.simpod.anthropic import count_tokens, messages
from loadtests.sim.simpod.errors import ApiError
from tests.loadtests.sim.simpod.written import HI, SPEC, named, whole

ASK = {"model": "tiny", "messages": HI, "max_tokens": 3, "ignore_eos": True}
TOOLS = {
    "tools": [{"name": "look", "input_schema": {"type": "object", "properties": {"at": {"type": "string"}}}}],
    "tool_choice": {"type": "any"},
    "max_tokens": 100,
}


def test_a_stream_has_the_events_in_the_documented_order() -> None:
    found = named(messages(ASK | {"stream": True}, SPEC), cached=5)
    assert [name for name, _ in found] == [
        "message_start",
        "content_block_start",
        *["content_block_delta"] * 3,
        "content_block_stop",
        "message_delta",
        "message_stop",
    ]
    assert all(name == data["type"] for name, data in found)
    assert found[-2][1]["usage"]["cache_read_input_tokens"] == 5
    assert found[-2][1]["delta"]["stop_reason"] == "max_tokens"


def test_the_whole_answer_equals_the_stream() -> None:
    answer = whole(messages(ASK, SPEC))
    found = named(messages(ASK | {"stream": True}, SPEC))
    said = "".join(data["delta"]["text"] for name, data in found if name == "content_block_delta")
    assert answer["content"] == [{"type": "text", "text": said}]
    assert (answer["stop_reason"], answer["usage"]["output_tokens"]) == ("max_tokens", 3)


@pytest.mark.parametrize("choice", [{"type": "any"}, {"type": "tool", "name": "look"}])
def test_a_forced_tool_is_used_and_streamed_as_json(choice: object) -> None:
    asked = ASK | TOOLS | {"tool_choice": choice}
    answer = whole(messages(asked, SPEC))
    (block,) = answer["content"]
    found = named(messages(asked | {"stream": True}, SPEC))
    streamed = "".join(data["delta"]["partial_json"] for name, data in found if name == "content_block_delta")
    assert (block["type"], block["name"], answer["stop_reason"]) == ("tool_use", "look", "tool_use")
    assert msgspec.json.decode(streamed) == block["input"]


def test_a_stop_sequence_is_named() -> None:
    text = whole(messages(ASK | {"max_tokens": 40}, SPEC))["content"][0]["text"]
    answer = whole(messages(ASK | {"max_tokens": 40, "stop_sequences": [text[5:9]]}, SPEC))
    assert (answer["stop_reason"], answer["stop_sequence"]) == ("stop_sequence", text[5:9])
    assert answer["content"][0]["text"] == text[: text.index(text[5:9])]


def test_counted_tokens_are_those_of_the_usage() -> None:
    """Case G 36: count_tokens, with what makes a prompt longer."""
    more = {"system": "Be brief.", "tools": TOOLS["tools"]}
    counted = msgspec.json.decode(count_tokens({"model": "tiny", "messages": HI} | more, SPEC))
    usage = whole(messages(ASK | more, SPEC))["usage"]
    assert counted["input_tokens"] == usage["input_tokens"] > usage["output_tokens"]


@pytest.mark.parametrize("field", ["messages", "max_tokens", "model"])
def test_a_missing_field_is_an_error_in_openais_shape(field: str) -> None:
    """Case G 36: as in vLLM, whose framework refuses the body before the endpoint sees it."""
    with pytest.raises(ApiError) as caught:
        messages({name: value for name, value in ASK.items() if name != field}, SPEC)
    error = msgspec.json.decode(caught.value.anthropic())["error"]
    assert (error["type"], error["param"]) == ("Bad Request", f"body.{field}")


def test_an_unknown_model_is_an_error_in_anthropics_shape() -> None:
    with pytest.raises(ApiError) as caught:
        messages(ASK | {"model": "nope"}, SPEC)
    error = msgspec.json.decode(caught.value.anthropic())
    assert (error["type"], error["error"]["type"], caught.value.status) == ("error", "NotFoundError", 404)
