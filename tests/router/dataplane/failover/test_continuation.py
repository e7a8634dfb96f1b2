"""How another pod goes on with an answer: the request that it gets, and the requests of which none is made."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from router.dataplane.failover.answer_state import AnswerState
from router.dataplane.failover.continuation import (
    CHAT,
    COMPLETION,
    Continuation,
    Opened,
    continuation,
    opened,
    original,
)
from router.dataplane.failover.reasons import NotMoved

ASKED: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "Hi"}], "stream": True}
PROMPT: dict[str, Any] = {"model": "m", "prompt": "Once", "stream": True}


def so_far(*texts: str, path: bytes = CHAT, ids: bool = False) -> AnswerState:
    """The state of an answer that has these pieces, a token each."""
    state = AnswerState(1000, trimmed=path == CHAT)
    for number, text in enumerate(texts):
        said = {"delta": {"content": text}} if path == CHAT else {"text": text}
        known: dict[str, Any] = {"token_ids": [number], "prompt_token_ids": [5, 6]} if ids else {}
        state.read(msgspec.json.encode({"id": "a", "choices": [{"index": 0, **said, **known}]}))
    return state


def next_request(body: dict[str, Any], state: AnswerState, path: bytes = CHAT) -> dict[str, Any]:
    made = continuation(path, msgspec.json.encode(body), state)
    assert isinstance(made, Continuation)
    found: dict[str, Any] = msgspec.json.decode(made.body)
    return found


def reason(body: dict[str, Any], path: bytes = CHAT) -> str:
    made = opened(path, msgspec.json.encode(body))
    return made.reason if isinstance(made, NotMoved) else ""


def test_a_chat_goes_on_after_an_assistant_message_that_is_to_be_continued() -> None:
    made = next_request(ASKED, so_far("Hel", "lo"))
    assert made == {
        **ASKED,
        "messages": [*ASKED["messages"], {"role": "assistant", "content": "Hello"}],
        "continue_final_message": True,
        "add_generation_prompt": False,
    }


def test_a_message_that_the_client_began_itself_gets_longer() -> None:
    begun = [*ASKED["messages"], {"role": "assistant", "content": "Well, "}]
    body = {**ASKED, "messages": begun, "continue_final_message": True, "add_generation_prompt": False}
    made = next_request(body, so_far("Hello"))
    assert made["messages"] == [*ASKED["messages"], {"role": "assistant", "content": "Well, Hello"}]


def test_blanks_at_the_end_of_a_chat_are_left_for_the_next_pod() -> None:
    state = so_far("one", "\n\n")
    made = continuation(CHAT, msgspec.json.encode({**ASKED, "max_tokens": 9}), state)
    assert isinstance(made, Continuation)
    assert made.owed == "\n\n"
    asked = msgspec.json.decode(made.body)
    assert (asked["messages"][-1]["content"], asked["max_tokens"]) == ("one", 8)


def test_a_chat_of_which_nothing_was_said_is_asked_again_as_it_is() -> None:
    assert next_request(ASKED, so_far("")) == ASKED


def test_a_completion_has_the_text_after_its_prompt() -> None:
    state = so_far(" upon", " a ", path=COMPLETION)
    made = next_request({**PROMPT, "max_tokens": 10}, state, COMPLETION)
    assert made == {**PROMPT, "prompt": "Once upon a ", "max_tokens": 8}
    assert next_request({**PROMPT, "prompt": ["Once"]}, state, COMPLETION)["prompt"] == "Once upon a "


def test_a_completion_without_a_limit_has_the_apis_own() -> None:
    assert next_request(PROMPT, so_far("a", "b", path=COMPLETION), COMPLETION)["max_tokens"] == 14


def test_a_prompt_of_token_ids_goes_on_with_token_ids() -> None:
    body = {**PROMPT, "prompt": [5, 6], "return_token_ids": True}
    for asked in (body, PROMPT):
        made = next_request(asked, so_far("a", "b", path=COMPLETION, ids=True), COMPLETION)
        assert (made["prompt"], made["max_tokens"]) == ([5, 6, 0, 1], 14)
    unknown = so_far("a", path=COMPLETION)
    assert continuation(COMPLETION, msgspec.json.encode(body), unknown) == NotMoved("token_ids")


def test_ids_that_the_client_has_are_not_made_again() -> None:
    body = msgspec.json.encode(PROMPT)
    ahead = so_far("a", "", path=COMPLETION, ids=True)
    assert continuation(COMPLETION, body, ahead, wants_ids=True) == NotMoved("token_ids")
    assert isinstance(continuation(COMPLETION, body, ahead), Continuation)
    assert continuation(COMPLETION, body, so_far("a", path=COMPLETION), wants_ids=True) == NotMoved("token_ids")


@pytest.mark.parametrize(("temperature", "goes_by_ids"), [(0, True), (0.7, False), (None, False)])
def test_text_behind_the_ids_is_made_again_only_where_it_is_the_same(
    temperature: float | None, goes_by_ids: bool
) -> None:
    state = so_far("Hel", ids=True)
    state.read(b'{"choices":[{"index":0,"delta":{"content":"lo"},"token_ids":[8,9]}]}')
    body = {**ASKED, "max_tokens": 9, "temperature": temperature}
    made = continuation(CHAT, msgspec.json.encode(body), state)
    assert isinstance(made, Continuation)
    assert made.ids == (b"5,6,0" if goes_by_ids else b"")
    assert made.behind == "lo"
    assert msgspec.json.decode(made.body)["max_tokens"] == (8 if goes_by_ids else 6)


def test_a_chat_goes_on_with_its_token_ids_and_has_the_text_for_engines_that_take_none() -> None:
    made = next_request({**ASKED, "max_tokens": 9}, so_far("Hel", "lo", "\n", ids=True))
    assert made["kv_transfer_params"] == {"prompt_token_ids": [5, 6, 0, 1, 2]}
    assert made["messages"][-1] == {"role": "assistant", "content": "Hello"}
    assert made["max_tokens"] == 6


def test_limits_are_reduced_by_what_was_sent() -> None:
    body = {**ASKED, "max_tokens": 10, "max_completion_tokens": 8, "min_tokens": 2}
    made = next_request(body, so_far("a", "b", "c"))
    assert (made["max_tokens"], made["max_completion_tokens"], made["min_tokens"]) == (7, 5, 0)


def test_nothing_goes_on_after_its_end() -> None:
    body = msgspec.json.encode({**ASKED, "max_tokens": 2})
    assert continuation(CHAT, body, so_far("a", "b")) == NotMoved("ended")
    state = so_far("a")
    state.read(b'{"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}')
    assert continuation(CHAT, body, state) == NotMoved("ended")


def test_the_answer_may_forbid_it() -> None:
    state = so_far("a")
    state.read(b'{"choices":[{"index":0,"delta":{"tool_calls":[{"index":0}]}}]}')
    assert continuation(CHAT, msgspec.json.encode(ASKED), state) == NotMoved("tools")


def test_the_first_pod_is_asked_to_count_tokens_in_every_chunk() -> None:
    made = opened(CHAT, msgspec.json.encode({**ASKED, "stream_options": {"include_usage": True, "x": 1}}))
    assert isinstance(made, Opened)
    options = msgspec.json.decode(made.body)["stream_options"]
    assert options == {"include_usage": True, "x": 1, "continuous_usage_stats": True}
    assert (made.wants_usage, made.wants_counts) == (True, False)
    plain = opened(CHAT, msgspec.json.encode(ASKED))
    assert isinstance(plain, Opened)
    assert (plain.wants_usage, plain.wants_counts) == (False, False)


def test_an_engine_that_knows_token_ids_is_asked_for_them() -> None:
    body = msgspec.json.encode({**ASKED, "return_token_ids": False})
    made = opened(CHAT, body, ids=True)
    assert isinstance(made, Opened)
    assert msgspec.json.decode(made.body)["return_token_ids"] is True
    assert msgspec.json.decode(original(made)) == msgspec.json.decode(body)
    plain = opened(CHAT, msgspec.json.encode(ASKED))
    assert isinstance(plain, Opened)
    assert "return_token_ids" not in msgspec.json.decode(plain.body)


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"n": 2}, "choices"),
        ({"logprobs": True}, "logprobs"),
        ({"echo": True}, "echo"),
        ({"tools": [{"type": "function"}]}, "tools"),
        ({"tools": [{"type": "function"}], "tool_choice": "none"}, ""),
        ({"response_format": {"type": "json_object"}}, "structured"),
        ({"response_format": {"type": "text"}}, ""),
        ({"structured_outputs": {"regex": "a+"}}, "structured"),
        ({"presence_penalty": 0.5}, "penalties"),
        ({"presence_penalty": 0.0, "frequency_penalty": None, "n": 1, "logprobs": False, "echo": False}, ""),
        ({"stop": ["END"]}, "stop"),
        ({"stop": "\n"}, ""),
        ({"stop": ["\n", "."]}, ""),
        ({"add_generation_prompt": False}, "prompt"),
        ({"return_token_ids": True}, "token_ids"),
        ({"bad_words": ["no"]}, "option"),
        ({"modalities": ["text", "audio"]}, "option"),
    ],
)
def test_fields_of_a_chat_that_forbid_a_move(fields: dict[str, Any], expected: str) -> None:
    assert reason({**ASKED, **fields}) == expected


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, ""),
        ({"prompt": ["a", "b"]}, "choices"),
        ({"prompt": [5, 6]}, ""),
        ({"return_token_ids": True}, ""),
        ({"suffix": "end"}, "prompt"),
        ({"best_of": 3}, "choices"),
    ],
)
def test_fields_of_a_completion_that_forbid_a_move(fields: dict[str, Any], expected: str) -> None:
    assert reason({**PROMPT, **fields}, COMPLETION) == expected


def test_other_paths_and_bodies_are_not_moved() -> None:
    assert reason(ASKED, b"/v1/messages") == "path"
    assert opened(CHAT, b"[1]") == NotMoved("body")
