from typing import Any

import msgspec
import pytest

from loadtests.sim.simpod.bodies import ResponsesBody, read
from loadtests.sim.simpod.chat import chat
from loadtests.sim.simpod.errors import ApiError
from loadtests.sim.simpod.responses import Written, write
from tests.loadtests.sim.simpod.written import SPEC, named, whole

TOOL = {
    "type": "function",
    "name": "look",
    "parameters": {"type": "object", "properties": {"at": {"enum": ["sky", "sea"]}}, "required": ["at"]},
}


def written(*earlier: dict[str, Any], **more: object) -> Written:
    body = read(ResponsesBody, {"input": "hi", "max_output_tokens": 3, "ignore_eos": True} | more)
    return write(body, SPEC, "resp_1", list(earlier))


def streamed(**more: object) -> list[tuple[str, Any]]:
    return named(written(stream=True, **more).script)


def test_a_stream_has_all_its_events_in_order_and_numbered() -> None:
    """Case G 36: the events of /v1/responses."""
    found = streamed()
    assert [name.removeprefix("response.") for name, _ in found] == [
        "created",
        "in_progress",
        "output_item.added",
        "content_part.added",
        *["output_text.delta"] * 3,
        "output_text.done",
        "content_part.done",
        "output_item.done",
        "completed",
    ]
    assert [data["sequence_number"] for _, data in found] == list(range(len(found)))
    assert all(name == data["type"] for name, data in found)


def test_the_streamed_text_is_that_of_the_finished_response_and_of_a_chat() -> None:
    answer = whole(written().script)
    text = answer["output"][0]["content"][0]["text"]
    found = streamed()
    assert "".join(data["delta"] for name, data in found if name.endswith(".delta")) == text
    assert found[-1][1]["response"] == answer
    asked = {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 3, "ignore_eos": True}
    assert whole(chat(asked, SPEC))["choices"][0]["message"]["content"] == text


@pytest.mark.parametrize("choice", ["required", {"type": "function", "name": "look"}])
def test_a_forced_tool_is_called_and_streamed(choice: object) -> None:
    asked = {"tools": [TOOL], "tool_choice": choice, "max_output_tokens": 50}
    answer = whole(written(**asked).script)
    (item,) = answer["output"]
    assert (item["type"], item["name"], answer["status"]) == ("function_call", "look", "completed")
    assert msgspec.json.decode(item["arguments"])["at"] in ("sky", "sea")
    found = streamed(**asked)
    assert "".join(data["delta"] for name, data in found if name.endswith("arguments.delta")) == item["arguments"]
    assert [data["sequence_number"] for _, data in found] == list(range(len(found)))


def test_a_response_goes_on_with_the_conversation_before_it() -> None:
    first = written()
    second = written(*first.turn, input=[{"role": "user", "content": "more"}])
    assert [message["role"] for message in second.turn] == ["user", "assistant", "user", "assistant"]
    assert second.script.choices[0].prompt_tokens > first.script.choices[0].prompt_tokens


def test_the_items_of_an_agents_loop_are_taken() -> None:
    loop = [
        {"role": "user", "content": [{"type": "input_text", "text": "hi"}]},
        {"type": "reasoning", "id": "r", "summary": []},
        {"type": "function_call", "call_id": "c", "name": "look", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "c", "output": "sky"},
        {"type": "local_shell_call", "call_id": "d", "action": {"type": "exec", "command": ["ls"]}},
        {"type": "local_shell_call_output", "id": "d", "output": "a"},
    ]
    roles = [message["role"] for message in written(input=loop, instructions="Be brief.").turn]
    assert roles == ["system", "user", "assistant", "assistant", "tool", "assistant", "tool", "assistant"]


def test_tokens_have_probabilities_where_they_are_included() -> None:
    asked = {"include": ["message.output_text.logprobs"], "top_logprobs": 2}
    part = whole(written(**asked).script)["output"][0]["content"][0]
    assert [len(one["top_logprobs"]) for one in part["logprobs"]] == [2] * 3
    deltas = [data["logprobs"][0]["token"] for name, data in streamed(**asked) if name.endswith("text.delta")]
    assert deltas == [one["token"] for one in part["logprobs"]]


@pytest.mark.parametrize("kind", ["json_schema", "json_object"])
def test_the_text_has_the_format_asked_for(kind: str) -> None:
    form = {"format": {"type": kind, "name": "look", "schema": TOOL["parameters"]}}
    text = whole(written(text=form, max_output_tokens=90).script)["output"][0]["content"][0]["text"]
    assert isinstance(msgspec.json.decode(text), dict)


@pytest.mark.parametrize(
    "more",
    [
        {"background": True, "store": False},
        {"tool_choice": "required"},
        {"tools": [TOOL], "tool_choice": {"type": "function", "name": "nope"}},
        {"input": [{"type": "odd"}]},
        {"max_output_tokens": 99999},
        {"model": "nope"},
    ],
)
def test_what_vllm_refuses_is_refused(more: dict[str, object]) -> None:
    with pytest.raises(ApiError):
        written(**more)
