"""What the client gets of the events of two pods: one answer, with one id, one role and the tokens of all of it."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from router.dataplane.failover.answer_state import AnswerState
from router.dataplane.failover.splice import MOVED_COMMENT, Splice, without_usage

DONE = b"data: [DONE]\n\n"


def splice(*, usage: bool = False, counts: bool = False, trimmed: bool = True) -> Splice:
    return Splice(AnswerState(1000, trimmed=trimmed), wants_usage=usage, wants_counts=counts)


def event(delta: dict[str, Any] | str | None, used: int | None = None, id: str = "a", **more: Any) -> bytes:
    """An event of a chat, of a completion if `delta` is its text, or with usage alone if it is None."""
    said: dict[str, Any] = {"text": delta} if isinstance(delta, str) else {"delta": delta}
    choices = [] if delta is None else [{"index": 0, **said, "finish_reason": None, **more}]
    body: dict[str, Any] = {"id": id, "created": len(id), "choices": choices}
    if used is not None:
        details = {"cached_tokens": 3, "audio": {"x": None}}
        sizes = {"prompt_tokens": 4 if id == "a" else 6, "completion_tokens": used, "total_tokens": 4 + used}
        body["usage"] = sizes | {"prompt_tokens_details": details}
    return b"data: " + msgspec.json.encode(body) + b"\n\n"


def said(content: str, used: int | None = None, id: str = "a", **more: Any) -> bytes:
    return event({"content": content}, used, id, **more)


def payloads(events: bytes) -> list[dict[str, Any]]:
    return [
        msgspec.json.decode(each.removeprefix(b"data: ")) for each in events.split(b"\n\n") if each[:6] == b"data: "
    ]


def test_the_first_pods_events_go_on_without_the_counts_that_the_client_did_not_ask_for() -> None:
    first = splice()
    assert first.passed(said('a "usage": {}', 1) + said("b")) == said('a "usage": {}') + said("b")
    assert first.passed(event(None, 2) + DONE) == DONE
    assert first.counted == event(None, 2)


def test_counts_that_the_client_asked_for_stay() -> None:
    every = said("a", 1) + event(None, 1) + DONE
    assert splice(usage=True, counts=True).passed(every) == every
    assert splice(usage=True).passed(every) == said("a") + event(None, 1) + DONE


def test_the_next_pods_events_go_on_with_the_answer() -> None:
    both = splice(usage=True)
    both.passed(event({"role": "assistant", "content": ""}, 0) + said("one", 1) + said(" two", 2))
    both.go_on("")
    opening = event({"role": "assistant", "content": ""}, 0, "other")
    assert both.passed(opening) == b"", "the mark waits for the text"
    out = both.passed(said(" three", 1, "other") + said("", 2, "other", finish_reason="stop"))
    assert out.startswith(MOVED_COMMENT)
    assert out[len(MOVED_COMMENT) :] == said(" three") + said("", finish_reason="stop")
    (last,) = payloads(both.passed(event(None, 2, "other") + DONE)[: -len(DONE)])
    assert (last["turnout"], last["id"]) == ({"moved": 1}, "a")
    assert last["usage"] == {
        **{"prompt_tokens": 4, "completion_tokens": 4, "total_tokens": 8},
        "prompt_tokens_details": {"cached_tokens": 3, "audio": {"x": None}},
    }


def test_without_counts_of_the_first_pod_the_next_ones_prompt_says_what_the_first_was() -> None:
    both = splice(usage=True)
    both.passed(said("one") + said(" two"))
    both.go_on("")
    both.passed(said(" three", 1, "other"))
    (last,) = payloads(both.passed(event(None, 1, "other")))
    assert [last["usage"][name] for name in ("prompt_tokens", "completion_tokens", "total_tokens")] == [4, 3, 7]


def test_a_role_that_the_client_does_not_have_yet_is_passed_on() -> None:
    both = splice()
    both.passed(said(""))
    both.go_on("")
    assert payloads(both.passed(event({"role": "assistant", "content": ""}, id="other")))[0]["choices"][0]["delta"] == {
        "role": "assistant",
        "content": "",
    }


def test_blanks_that_the_client_has_are_not_sent_twice() -> None:
    both = splice()
    both.passed(said("one") + said("\n\n"))
    both.go_on("\n\n")
    assert both.passed(said("\n", id="other")) == b""
    assert both.passed(said("\ntwo", id="other")) == MOVED_COMMENT + said("two")


def test_a_completion_goes_on_without_the_ids_of_its_prompt() -> None:
    both = splice(trimmed=False)
    both.passed(event("one"))
    both.go_on("")
    next_one = event(" two", id="other", prompt_token_ids=[1], token_ids=[2])
    assert both.passed(next_one) == MOVED_COMMENT + event(" two", prompt_token_ids=None, token_ids=None)


def test_ids_that_only_the_gateway_asked_for_are_taken_out() -> None:
    first = splice()
    opening = said("", 0)[:-3] + b',"prompt_token_ids":[1,2],"prompt_text":null}\n\n'
    assert first.passed(opening) == said("")[:-3] + b',"prompt_token_ids":null,"prompt_text":null}\n\n'
    two = first.passed(said('a "token_ids":[1]', 1, token_ids=[7]) + said("b", 2, token_ids=[8]))
    assert two == said('a "token_ids":[1]', token_ids=None) + said("b", token_ids=None)
    assert first.passed(event({}, 3, token_ids=[10])) == b"", "without ids there was no such chunk"
    assert first.state.trail.ids == b"1,2,7,8"
    ended = event({}, 3, token_ids=[11], finish_reason="stop")
    assert first.passed(ended) == event({}, token_ids=None, finish_reason="stop")


def test_ids_that_the_client_asked_for_stay() -> None:
    both = Splice(AnswerState(1000, trimmed=False), wants_usage=False, wants_counts=False, wants_ids=True)
    assert both.passed(event("a", prompt_token_ids=[1], token_ids=[2])) == event(
        "a", prompt_token_ids=[1], token_ids=[2]
    )
    both.go_on("", both.state.trail.ids)
    out = both.passed(event("b", id="other", prompt_token_ids=[1, 2], token_ids=[3]))
    assert out == MOVED_COMMENT + event("b", prompt_token_ids=None, token_ids=[3])


def test_a_pod_that_begins_anew_is_noticed() -> None:
    both = splice()
    both.passed(b"".join(said(f"{at} ", at) for at in range(1, 11)))
    both.go_on("")
    assert both.passed(said("0", 1, "other")) == b""
    assert (both.state.failed, both.state.reason) == ("it began anew", "not_continued")


def test_nothing_follows_an_error_of_the_engine() -> None:
    first = splice()
    error = b'data: {"error":{"message":"EngineCore died"}}\n\n'
    assert first.passed(said("one") + error + DONE) == said("one")
    assert first.state.failed == "EngineCore died"
    fixed = splice()
    fixed.state.give_up("tools")
    assert fixed.passed(error + DONE) == error + DONE, "what cannot be moved ends in the engine's own words"


def test_a_text_that_is_complete_is_ended() -> None:
    cut = splice()
    cut.passed(said("one"))
    assert cut.ending() is None
    cut.passed(said("", finish_reason="stop"))
    assert cut.ending() == DONE
    cut.passed(DONE)
    assert cut.ending() == b""
    lacking = splice(usage=True)
    lacking.passed(said("", finish_reason="stop"))
    assert lacking.ending() is None


@pytest.mark.parametrize("odd", [b"event: x\ndata: {}\n\n", b"id: 1\n\n"])
def test_events_of_another_kind_are_passed_on_and_forbid_a_move(odd: bytes) -> None:
    first = splice()
    assert first.passed(odd) == odd
    assert first.state.reason == "events"


def test_comments_forbid_nothing() -> None:
    first = splice()
    assert first.passed(b": ping\n\n") == b": ping\n\n"
    assert first.state.reason == ""


def test_usage_is_cut_out_wherever_it_stands() -> None:
    body = b'data: {"id":"a","usage":{"n":1,"d":{"c":{"x":2}},"e":null},"choices":[]}'
    assert without_usage(body) == b'data: {"id":"a","choices":[]}'
    assert without_usage(b'data: {"usage": {"n": 1}, "id": "a"}') == b'data: {"id":"a"}'
