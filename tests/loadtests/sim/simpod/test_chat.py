from typing import Any

import msgspec
import pytest

from loadtests.sim.simpod.chat import chat
from loadtests.sim.simpod.errors import ApiError
from tests.loadtests.sim.simpod.written import HI, SPEC, events, fields, whole

WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}, "days": {"type": "integer"}}},
    },
}
NAMED = {"type": "function", "function": {"name": "weather"}}


def body(**more: object) -> dict[str, object]:
    return {"messages": HI, "max_tokens": 4, "ignore_eos": True} | more


def streamed(**more: object) -> list[Any]:
    """The chunks of a streamed answer, without its last event."""
    return [fields(event) for event in events(chat(body(stream=True) | more, SPEC))[:-1]]


def choice(**more: object) -> Any:
    return whole(chat(body(**more), SPEC))["choices"][0]


def test_a_streamed_answer_has_the_events_of_a_real_engine() -> None:
    """Compare with a capture of vLLM 0.32: keys, their order and their nulls."""
    asked = body(max_tokens=2, stream=True, stream_options={"include_usage": True})
    role, token, last, usage, done = events(chat(asked, SPEC), cached=16)
    stamp = b'"object":"chat.completion.chunk","created":1795332843,"model":"tiny","choices":['
    assert (
        stamp
        + (
            b'{"index":0,"delta":{"role":"assistant","content":""},"logprobs":null,"finish_reason":null}],'
            b'"prompt_token_ids":null,"prompt_text":null}\n\n'
        )
        in role
    )
    text = fields(token)["choices"][0]["delta"]["content"].encode()
    assert (
        stamp
        + (b'{"index":0,"delta":{"content":"%b"},"logprobs":null,"finish_reason":null,"token_ids":null}]}\n\n' % text)
        in token
    )
    assert b'"logprobs":null,"finish_reason":"length","stop_reason":null,"token_ids":null}]}\n\n' in last
    assert (
        stamp
        + (
            b'],"usage":{"prompt_tokens":7,"total_tokens":9,"completion_tokens":2,"prompt_tokens_details":'
            b'{"cached_tokens":16,"created_cache_tokens":0}},"system_fingerprint":"vllm-0.32.0-3602b7d8"}\n\n'
        )
        in usage
    )
    assert done == b"data: [DONE]\n\n"


def test_usage_is_streamed_only_on_request() -> None:
    assert len(events(chat(body(max_tokens=1, stream=True), SPEC))) == 3


def test_usage_counts_up_with_each_chunk_where_that_is_wanted() -> None:
    """Case G 36: `continuous_usage_stats`."""
    chunks = streamed(stream_options={"include_usage": True, "continuous_usage_stats": True})
    assert [chunk["usage"]["completion_tokens"] for chunk in chunks] == [0, 1, 2, 3, 4, 4]


def test_the_whole_answer_equals_the_stream() -> None:
    answer = whole(chat(body(max_tokens=9), SPEC))
    deltas = [chunk["choices"][0]["delta"]["content"] for chunk in streamed(max_tokens=9)]
    assert answer["choices"][0]["message"]["content"] == "".join(deltas)
    assert answer["usage"]["completion_tokens"] == 9


def test_equal_prompts_get_equal_answers_and_different_prompts_different_ones() -> None:
    first, again = (chat({"messages": HI}, SPEC).whole(0) for _ in range(2))
    assert first == again
    assert chat({"messages": [{"role": "user", "content": "ho"}]}, SPEC).whole(0) != first


@pytest.mark.parametrize("field", ["max_tokens", "max_completion_tokens"])
def test_the_token_limit_is_kept(field: str) -> None:
    (one,) = chat({"messages": HI, field: 3, "min_tokens": 3}, SPEC).choices
    assert (one.tokens, one.max_tokens) == (3, 3)


def test_an_answer_that_ends_by_itself_stops() -> None:
    assert chat({"messages": HI}, SPEC).choices[0].finish == "stop"


def test_several_choices_differ_and_are_streamed_under_their_numbers() -> None:
    """Case G 36: `n > 1`."""
    answer = whole(chat(body(n=3), SPEC))
    texts = [one["message"]["content"] for one in answer["choices"]]
    assert (len(set(texts)), answer["usage"]["completion_tokens"]) == (3, 12)
    by_index: dict[int, str] = dict.fromkeys(range(3), "")
    for chunk in streamed(n=3):
        one = chunk["choices"][0]
        by_index[one["index"]] += one["delta"]["content"]
    assert list(by_index.values()) == texts


def test_a_stop_ends_the_answer_before_it_and_is_named() -> None:
    """Case G 36: `stop`."""
    text = choice(max_tokens=40)["message"]["content"]
    stop = text[21:26]
    stopped = choice(max_tokens=40, stop=[stop, "\x00"])
    assert (stopped["finish_reason"], stopped["stop_reason"]) == ("stop", stop)
    assert stopped["message"]["content"] == text[: text.index(stop)]
    assert choice(max_tokens=40, stop=stop, include_stop_str_in_output=True)["message"]["content"].endswith(stop)
    deltas = [chunk["choices"][0]["delta"]["content"] for chunk in streamed(max_tokens=40, stop=stop)]
    assert "".join(deltas) == stopped["message"]["content"]


def test_tokens_have_the_probabilities_asked_for_in_both_forms() -> None:
    """Case G 36: `logprobs` and `top_logprobs`."""
    entries = choice(logprobs=True, top_logprobs=2)["logprobs"]["content"]
    assert [len(entry["top_logprobs"]) for entry in entries] == [2] * 4
    assert all(entry["logprob"] < 0 and entry["top_logprobs"][0]["token"] == entry["token"] for entry in entries)
    chunks = [chunk["choices"][0]["logprobs"] for chunk in streamed(logprobs=True, top_logprobs=2)[1:]]
    assert [one for chunk in chunks for one in chunk["content"]] == entries
    assert choice()["logprobs"] is None


@pytest.mark.parametrize(("wanted", "finish"), [("required", "tool_calls"), (NAMED, "stop")])
def test_a_forced_tool_is_called_with_arguments_that_fit_its_schema(wanted: object, finish: str) -> None:
    asked = {"tools": [WEATHER], "tool_choice": wanted, "max_tokens": 200}
    answer = choice(**asked)
    (call,) = answer["message"]["tool_calls"]
    assert (answer["finish_reason"], answer["message"]["content"], call["function"]["name"]) == (finish, "", "weather")
    arguments = msgspec.json.decode(call["function"]["arguments"])
    assert isinstance(arguments["city"], str) and isinstance(arguments["days"], int)
    chunks = streamed(**asked)[1:]
    assert (chunks[-1]["choices"][0]["delta"], chunks[-1]["choices"][0]["finish_reason"]) == ({}, finish)
    deltas = [chunk["choices"][0]["delta"]["tool_calls"][0] for chunk in chunks[:-1]]
    assert (deltas[0]["id"], deltas[0]["function"]["name"]) == (call["id"], "weather")
    assert "".join(delta["function"].get("arguments", "") for delta in deltas) == call["function"]["arguments"]


def test_an_answer_matches_the_json_schema_asked_for() -> None:
    """Case G 36: `response_format`."""
    schema = WEATHER["function"]["parameters"]  # type: ignore[index]
    form = {"type": "json_schema", "json_schema": {"name": "w", "schema": schema}}
    answer = choice(response_format=form, max_tokens=200, ignore_eos=False)
    assert set(msgspec.json.decode(answer["message"]["content"])) == {"city", "days"}
    assert answer["finish_reason"] == "stop"


def test_the_last_message_of_the_assistant_is_echoed() -> None:
    """Case G 36: `echo`."""
    said = [*HI, {"role": "assistant", "content": "so"}]
    assert choice(messages=said, echo=True)["message"]["content"].startswith("so")
    assert streamed(messages=said, echo=True)[1]["choices"][0]["delta"] == {"content": "so"}


def test_token_numbers_are_those_of_the_text() -> None:
    answer = choice(return_token_ids=True)
    text = b"".join(token.to_bytes(4, "little") for token in answer["token_ids"])
    assert text.decode() == answer["message"]["content"]


@pytest.mark.parametrize("messages", [[{"content": "hi"}], ["hi"], [{"role": 3}]])
def test_what_is_no_message_is_a_400(messages: list[object]) -> None:
    with pytest.raises(ApiError) as caught:
        chat(body(messages=messages), SPEC)
    assert caught.value.status == 400


@pytest.mark.parametrize("said", [1, 7, 19])
def test_an_answer_that_is_continued_ends_as_the_undisturbed_one(said: int) -> None:
    """At temperature 0 the next word is a function of all words before it."""
    undisturbed = whole(chat(body(max_tokens=20), SPEC))
    text = undisturbed["choices"][0]["message"]["content"]
    begun = [*HI, {"role": "assistant", "content": text[: 4 * said]}]
    asked = body(messages=begun, max_tokens=20 - said, continue_final_message=True, add_generation_prompt=False)
    rest = whole(chat(asked, SPEC))
    assert text[: 4 * said] + rest["choices"][0]["message"]["content"] == text
    assert rest["usage"]["prompt_tokens"] == undisturbed["usage"]["prompt_tokens"] + said
    assert rest["id"] != undisturbed["id"]


def test_an_answer_that_is_continued_ends_where_the_undisturbed_one_does() -> None:
    undisturbed = whole(chat(body(max_tokens=None, ignore_eos=False), SPEC))["choices"][0]
    text = undisturbed["message"]["content"]
    begun = [*HI, {"role": "assistant", "content": text[:8]}]
    asked = body(messages=begun, max_tokens=None, ignore_eos=False) | {"continue_final_message": True}
    rest = whole(chat(asked | {"add_generation_prompt": False}, SPEC))["choices"][0]
    assert (text[:8] + rest["message"]["content"], rest["finish_reason"]) == (text, undisturbed["finish_reason"])


def test_a_message_is_continued_or_a_new_one_begun() -> None:
    with pytest.raises(ApiError, match="Cannot set both `continue_final_message` and `add_generation_prompt`"):
        chat(body(continue_final_message=True), SPEC)
    with pytest.raises(ApiError, match="no message to continue"):
        chat(body(messages=[], continue_final_message=True, add_generation_prompt=False), SPEC)
