import base64
import struct
from typing import Any

import msgspec
import pytest

from loadtests.sim.engine.profiles import PROFILES
from loadtests.sim.simpod.openai import chat, completion, embedding, models, tokenize
from loadtests.sim.simpod.script import ApiError, PodSpec, Script, decode_body

SPEC = PodSpec("pod-1", ("tiny", "other"), PROFILES["tiny"]._replace(max_model_len=8192))
HI = [{"role": "user", "content": "hi"}]
WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}, "days": {"type": "integer"}}},
    },
}


def events(script: Script, cached: int = 0) -> list[bytes]:
    """The events of a streamed answer."""
    stream = script.stream
    assert stream is not None
    ends = [stream.after] * (len(script.pieces) - 1) + [stream.last_after]
    tokens = [stream.before + piece + end for piece, end in zip(script.pieces, ends, strict=True)]
    return [*stream.opening(cached), *tokens, *stream.closing(cached)]


def fields(event: bytes) -> Any:
    assert event.startswith(b"data: ") and event.endswith(b"\n\n")
    return msgspec.json.decode(event[6:])


def test_a_streamed_answer_has_the_events_of_a_real_engine() -> None:
    """Compare with a capture of vLLM 0.32: keys, their order and their nulls."""
    body = {
        "messages": HI,
        "max_tokens": 2,
        "ignore_eos": True,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    role, token, last, usage, done = events(chat(body, SPEC), cached=16)
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
    assert len(events(chat({"messages": HI, "max_tokens": 1, "stream": True}, SPEC))) == 3


def test_the_whole_answer_equals_the_stream() -> None:
    body = {"messages": HI, "max_tokens": 9, "ignore_eos": True}
    streamed = events(chat(body | {"stream": True}, SPEC))[1:-1]
    whole = msgspec.json.decode(chat(body, SPEC).whole(0))
    assert whole["choices"][0]["message"]["content"] == "".join(
        fields(event)["choices"][0]["delta"]["content"] for event in streamed
    )
    assert whole["usage"]["completion_tokens"] == 9


def test_equal_prompts_get_equal_answers_and_different_prompts_different_ones() -> None:
    first, again = (chat({"messages": HI}, SPEC).whole(0) for _ in range(2))
    assert first == again
    assert chat({"messages": [{"role": "user", "content": "ho"}]}, SPEC).whole(0) != first


@pytest.mark.parametrize("field", ["max_tokens", "max_completion_tokens"])
def test_the_token_limit_is_kept(field: str) -> None:
    script = chat({"messages": HI, field: 3, "min_tokens": 3}, SPEC)
    assert (len(script.pieces), script.max_tokens) == (3, 3)


def test_an_answer_that_ends_by_itself_stops() -> None:
    assert chat({"messages": HI}, SPEC).finish == "stop"


@pytest.mark.parametrize("choice", ["required", {"type": "function", "function": {"name": "weather"}}])
def test_a_forced_tool_is_called_with_arguments_that_fit_its_schema(choice: object) -> None:
    body = {"messages": HI, "tools": [WEATHER], "tool_choice": choice}
    answer = msgspec.json.decode(chat(body, SPEC).whole(0))["choices"][0]
    (call,) = answer["message"]["tool_calls"]
    assert (answer["finish_reason"], answer["message"]["content"], call["function"]["name"]) == (
        "tool_calls",
        None,
        "weather",
    )
    arguments = msgspec.json.decode(call["function"]["arguments"])
    assert isinstance(arguments["city"], str) and isinstance(arguments["days"], int)
    streamed = [fields(event) for event in events(chat(body | {"stream": True}, SPEC))[1:-1]]
    pieces = [event["choices"][0]["delta"]["tool_calls"][0]["function"]["arguments"] for event in streamed]
    assert "".join(pieces) == call["function"]["arguments"]


def test_tools_are_called_only_when_forced() -> None:
    answer = chat({"messages": HI, "tools": [WEATHER], "tool_choice": "auto"}, SPEC).whole(0)
    assert msgspec.json.decode(answer)["choices"][0]["message"]["tool_calls"] == []


ERRORS: list[tuple[dict[str, object], int, str, str | None]] = [
    ({"model": "nope", "messages": HI}, 404, "The model `nope` does not exist. Valid aliases: tiny, other.", "model"),
    (
        {"model": "tiny"},
        400,
        (
            "1 validation error:\n  {'type': 'missing', 'loc': 'body.messages', 'msg': 'Field required', "
            "'input': '<dict of 1 items>'}"
        ),
        "body.messages",
    ),
    (
        {"messages": HI, "max_tokens": 99999},
        400,
        (
            "max_tokens=99999 cannot be greater than max_model_len=8192. Please request fewer output tokens. "
            "(parameter=max_tokens, value=99999)"
        ),
        "max_tokens",
    ),
    (
        {"messages": HI, "max_tokens": 8190},
        400,
        (
            "This model's maximum context length is 8192 tokens. However, you requested 8190 output tokens and your "
            "prompt contains 7 input tokens."
        ),
        "input_tokens",
    ),
]


@pytest.mark.parametrize(("body", "status", "message", "param"), ERRORS)
def test_bad_requests_get_the_engines_error_messages(
    body: dict[str, object], status: int, message: str, param: str | None
) -> None:
    with pytest.raises(ApiError) as caught:
        chat(body, SPEC)
    error = msgspec.json.decode(caught.value.openai())["error"]
    assert (error["message"], error["param"], error["code"], caught.value.status) == (message, param, status, status)


@pytest.mark.parametrize(
    "body",
    [
        {"messages": []},
        {"messages": "hi"},
        {"messages": ["hi"]},
        {"messages": HI, "n": 2},
        {"messages": HI, "stream": "yes"},
        {"messages": HI, "max_tokens": "3"},
        {"messages": HI, "max_tokens": 0},
        {"messages": HI, "tools": [WEATHER], "tool_choice": {"type": "function", "function": {"name": "nope"}}},
    ],
)
def test_any_other_invalid_request_is_a_400(body: dict[str, object]) -> None:
    with pytest.raises(ApiError) as caught:
        chat(body, SPEC)
    assert caught.value.status == 400


@pytest.mark.parametrize(("raw", "kind"), [(b"{", "json_invalid"), (b"", "json_invalid"), (b"[]", "model_attributes")])
def test_a_body_that_is_not_a_json_object_is_a_400(raw: bytes, kind: str) -> None:
    with pytest.raises(ApiError, match=kind) as caught:
        decode_body(raw)
    assert caught.value.status == 400


@pytest.mark.parametrize("prompt", ["abcdefgh", ["abcdefgh"], [1684234849, 1751606885]])
def test_completions_take_text_and_token_ids_alike(prompt: object) -> None:
    whole = msgspec.json.decode(completion({"prompt": prompt, "max_tokens": 4, "ignore_eos": True}, SPEC).whole(0))
    expected = msgspec.json.decode(
        completion({"prompt": "abcdefgh", "max_tokens": 4, "ignore_eos": True}, SPEC).whole(0)
    )
    assert whole == expected
    assert whole["usage"]["prompt_tokens"] == 2


def test_a_streamed_completion_equals_the_whole_one() -> None:
    body = {"prompt": "abc", "max_tokens": 5, "ignore_eos": True}
    streamed = [fields(event)["choices"][0] for event in events(completion(body | {"stream": True}, SPEC))[:-1]]
    whole = msgspec.json.decode(completion(body, SPEC).whole(0))
    assert "".join(choice["text"] for choice in streamed) == whole["choices"][0]["text"]
    assert [choice["finish_reason"] for choice in streamed] == [None] * 4 + ["length"]


def test_embeddings_are_unit_vectors_and_equal_in_packed_form() -> None:
    body = {"input": ["a", "b"], "dimensions": 8}
    plain = msgspec.json.decode(embedding(body, SPEC).whole(0))["data"]
    packed = msgspec.json.decode(embedding(body | {"encoding_format": "base64"}, SPEC).whole(0))["data"]
    assert [row["index"] for row in plain] == [0, 1]
    for one, other in zip(plain, packed, strict=True):
        assert sum(x * x for x in one["embedding"]) == pytest.approx(1.0)
        unpacked = struct.unpack("<8f", base64.b64decode(other["embedding"]))
        assert unpacked == pytest.approx(one["embedding"], abs=1e-6)


def test_tokenize_counts_as_usage_does() -> None:
    counted = msgspec.json.decode(tokenize({"messages": HI}, SPEC))
    usage = msgspec.json.decode(chat({"messages": HI}, SPEC).whole(0))["usage"]
    assert counted["count"] == len(counted["tokens"]) == usage["prompt_tokens"]


def test_models_are_listed_with_their_length() -> None:
    listed = msgspec.json.decode(models(SPEC))["data"]
    assert [(card["id"], card["max_model_len"]) for card in listed] == [("tiny", 8192), ("other", 8192)]
