"""What is kept of a streamed answer: its text, its tokens, and why it cannot be moved."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from router.dataplane.failover.answer_state import AnswerState


def state(max_chars: int = 1000, *, trimmed: bool = True) -> AnswerState:
    return AnswerState(max_chars, trimmed=trimmed)


def chunk(delta: dict[str, Any] | str, finish: str | None = None, used: int | None = None, **more: Any) -> bytes:
    """A chunk of a chat, or of a completion if `delta` is its text."""
    content: dict[str, Any] = {"text": delta} if isinstance(delta, str) else {"delta": delta}
    choice = {"index": 0, **content, "logprobs": None, "finish_reason": finish, **more}
    body: dict[str, Any] = {"id": "chatcmpl-7", "created": 11, "choices": [choice]}
    if used is not None:
        body["usage"] = {"prompt_tokens": 5, "completion_tokens": used, "total_tokens": 5 + used}
    return msgspec.json.encode(body)


def said(content: str, **more: Any) -> bytes:
    return chunk({"content": content}, **more)


def fed(*events: bytes, **kept: Any) -> AnswerState:
    answer = state(**kept)
    for event in events:
        answer.read(event)
    return answer


def test_text_id_and_role_of_a_chat_are_kept() -> None:
    answer = fed(chunk({"role": "assistant", "content": ""}), said("Hel"), said("lo"))
    assert (answer.text, answer.id, answer.created, answer.has_role) == ("Hello", "chatcmpl-7", 11, True)
    assert (answer.tokens, answer.reason, answer.finished, answer.done) == (2, "", False, False)


def test_text_of_a_completion_is_kept() -> None:
    assert fed(chunk("one"), chunk(" two"), trimmed=False).text == "one two"


def test_tokens_are_those_that_the_engine_counts() -> None:
    answer = fed(said("one two three", used=3), said(" four five", used=5))
    assert (answer.tokens, answer.prompt_tokens) == (5, 5)


def test_tokens_are_counted_by_their_ids_where_there_is_no_usage() -> None:
    answer = fed(chunk("ab", token_ids=[7, 8]), chunk("c", token_ids=[9]), trimmed=False)
    assert (answer.tokens, answer.trail.ids) == (3, b"")


def opening(*ids: int) -> bytes:
    """The first chunk of a chat, with the ids of its prompt."""
    role = {"role": "assistant", "content": ""}
    body = {"id": "chatcmpl-7", "choices": [{"index": 0, "delta": role}], "prompt_token_ids": ids}
    return msgspec.json.encode(body)


def test_ids_of_prompt_and_text_are_kept() -> None:
    answer = fed(opening(1, 2), said("ab", token_ids=[7, 8]), said("c", token_ids=[9]), said("", token_ids=[10]))
    assert (answer.trail.ids, answer.trail.tokens, answer.trail.has_more) == (b"1,2,7,8,9", 3, True)
    assert fed(chunk("a", token_ids=[7], prompt_token_ids=[1]), trimmed=False).trail.ids == b"1,7"


def test_ids_with_one_missing_are_of_no_use() -> None:
    assert fed(opening(1, 2), said("ab", token_ids=[7]), said("c"), said("d", token_ids=[9])).trail.ids == b""


def test_a_pod_that_goes_on_with_the_ids_makes_no_blanks_again() -> None:
    answer = fed(opening(1), said("one", token_ids=[7]), said("\n", token_ids=[8]))
    answer.go_on("\n", answer.trail.ids)
    answer.read(opening(1, 7, 8))
    last = answer.read(said("\ntwo", token_ids=[9]))
    assert last is not None
    assert last.choices[0].delta is not None
    assert last.choices[0].delta.content == "\ntwo"
    assert (answer.trail.ids, answer.tokens) == (b"1,7,8,9", 3)


def test_text_behind_the_ids_is_made_again_and_not_kept_twice() -> None:
    answer = fed(opening(1), said("one", token_ids=[7]), said(" twé", token_ids=[8, 9]))
    assert (answer.trail.ids, answer.trail.chars) == (b"1,7", 3)
    answer.go_on("", answer.trail.ids, " twé")
    for data, left in ((opening(1, 7), ""), (said(" tw", token_ids=[8]), ""), (said("é!", token_ids=[9]), "!")):
        chunk = answer.read(data)
        assert chunk is not None
        assert chunk.choices[0].delta is not None
        assert chunk.choices[0].delta.content == left
    assert (answer.text, answer.trail.ids, answer.tokens, answer.trail.chars) == ("one twé!", b"1,7,8,9", 3, 8)


def test_a_pod_that_makes_another_text_did_not_go_on() -> None:
    answer = fed(opening(1), said("one", token_ids=[7]), said(" two", token_ids=[8, 9]))
    answer.go_on("", answer.trail.ids, " two")
    answer.read(opening(1, 7))
    answer.read(said(" ten", token_ids=[10]))
    assert (answer.reason, answer.failed) == ("not_continued", "it began anew")


def test_a_pod_that_takes_no_ids_goes_on_with_the_text() -> None:
    answer = fed(opening(1), said("one", token_ids=[7]), said("\n", token_ids=[8]))
    answer.go_on("\n", answer.trail.ids)
    answer.read(opening(1, 99))
    last = answer.read(said("\ntwo", token_ids=[9]))
    assert last is not None
    assert last.choices[0].delta is not None
    assert last.choices[0].delta.content == "two"
    assert (answer.trail.ids, answer.tokens) == (b"1,99,9", 2), "the next move has the tokens of this pod"


def test_tokens_behind_the_text_do_not_count_as_passed_to_the_next_pod() -> None:
    answer = fed(said("one", used=1), said("\n\n", used=2), said("", used=3))
    assert (answer.tokens, answer.solid_tokens) == (3, 1)


def test_blanks_of_a_completion_are_passed_to_the_next_pod() -> None:
    answer = fed(chunk("one", used=1), chunk("\n\n", used=2), trimmed=False)
    assert answer.solid_tokens == 2


def test_the_end_is_seen() -> None:
    answer = fed(said("", finish="stop"), b"[DONE]")
    assert answer.finished
    assert answer.done


def test_an_engine_that_ends_its_stream_with_an_error_has_failed() -> None:
    answer = fed(said("one"), b'{"error":{"message":"EngineCore died","code":500}}')
    assert answer.failed == "EngineCore died"


@pytest.mark.parametrize(
    ("event", "reason"),
    [
        (chunk({"tool_calls": [{"index": 0}]}), "tools"),
        (chunk({"reasoning": "hm"}), "reasoning"),
        (chunk({"reasoning_content": "hm"}), "reasoning"),
        (b'{"choices":[{"index":1,"delta":{"content":"b"}}]}', "choices"),
        (b'{"choices":[{"index":0,"delta":{"content":"b"},"logprobs":{"content":[]}}]}', "logprobs"),
        (b"no json", "events"),
        (said("x" * 1001), "size"),
    ],
)
def test_what_forbids_a_move_is_named(event: bytes, reason: str) -> None:
    answer = fed(said("one"), event)
    assert (answer.reason, answer.text) == (reason, "")


def test_an_empty_reasoning_forbids_nothing() -> None:
    assert fed(chunk({"content": "a", "reasoning": None, "tool_calls": []})).reason == ""


def test_after_a_move_blanks_that_the_client_has_are_taken_from_the_text() -> None:
    answer = fed(said("one", used=1), said("\n\n", used=2))
    answer.go_on("\n\n")
    first, second = answer.read(said("\n", used=1)), answer.read(said("\n two", used=2))
    assert first is not None
    assert second is not None
    assert (first.choices[0].delta, second.choices[0].delta) != (None, None)
    assert [each.choices[0].delta.content for each in (first, second) if each.choices[0].delta] == ["", " two"]
    assert (answer.text, answer.tokens, answer.moves) == ("one\n\n two", 3, 1)


def test_after_a_move_tokens_and_the_id_go_on() -> None:
    answer = fed(said("one", used=1), said(" two", used=2))
    answer.go_on("")
    answer.read(b'{"id":"chatcmpl-8","created":12,"choices":[{"index":0,"delta":{"content":" x"}}]}')
    assert (answer.id, answer.created, answer.tokens) == ("chatcmpl-7", 11, 3)


def test_many_pieces_are_put_together() -> None:
    answer = state(100_000)
    for _ in range(2000):
        answer.read(said("abc"))
    assert answer.text == "abc" * 2000
    assert len(answer._pieces) < 600
