from typing import Any

import pytest

from loadtests.sim.simpod.completions import completion
from tests.loadtests.sim.simpod.written import SPEC, events, fields, whole


def body(**more: object) -> dict[str, object]:
    return {"prompt": "abcdefgh", "max_tokens": 4, "ignore_eos": True} | more


def choices(**more: object) -> list[Any]:
    return whole(completion(body(**more), SPEC))["choices"]  # type: ignore[no-any-return]


def streamed(**more: object) -> list[Any]:
    chunks = [fields(event) for event in events(completion(body(stream=True) | more, SPEC))[:-1]]
    return [chunk["choices"][0] for chunk in chunks]


@pytest.mark.parametrize("prompt", ["abcdefgh", ["abcdefgh"], [1684234849, 1751606885], [[1684234849, 1751606885]]])
def test_text_and_token_ids_are_taken_alike(prompt: object) -> None:
    answer = whole(completion(body(prompt=prompt), SPEC))
    assert answer == whole(completion(body(), SPEC))
    assert answer["usage"]["prompt_tokens"] == 2


def test_a_streamed_completion_equals_the_whole_one() -> None:
    chunks = streamed()
    assert "".join(chunk["text"] for chunk in chunks) == choices()[0]["text"]
    assert [chunk["finish_reason"] for chunk in chunks] == [None] * 3 + ["length"]


def test_each_prompt_of_a_list_is_answered_n_times_in_order() -> None:
    """Case G 36: lists of prompts and `n > 1`."""
    found = choices(prompt=["abcdefgh", "b"], n=2)
    assert [one["index"] for one in found] == [0, 1, 2, 3]
    assert [found[0]["text"], found[2]["text"]] == [choices()[0]["text"], choices(prompt="b")[0]["text"]]
    assert len({one["text"] for one in found}) == 4
    usage = whole(completion(body(prompt=["abcdefgh", "b"], n=2), SPEC))["usage"]
    assert (usage["prompt_tokens"], usage["completion_tokens"]) == (3, 16)


def test_the_prompt_is_echoed_before_the_answer_and_alone_without_one() -> None:
    """Case G 36: `echo`."""
    text = choices()[0]["text"]
    assert choices(echo=True)[0]["text"] == "abcdefgh" + text
    assert choices(echo=True, max_tokens=0)[0]["text"] == "abcdefgh"
    assert "".join(chunk["text"] for chunk in streamed(echo=True)) == "abcdefgh" + text


def test_probabilities_are_listed_with_places_in_the_text() -> None:
    """Case G 36: `logprobs`."""
    found = choices(logprobs=2, echo=True)[0]
    logprobs = found["logprobs"]
    assert "".join(logprobs["tokens"]) == found["text"]
    assert logprobs["text_offset"] == [0, 4, 8, 12, 16, 20]
    assert (logprobs["token_logprobs"][0], logprobs["top_logprobs"][0]) == (None, None)
    assert [len(top) for top in logprobs["top_logprobs"][1:]] == [2] * 5
    offsets = [at for chunk in streamed(logprobs=2, echo=True) for at in chunk["logprobs"]["text_offset"]]
    assert offsets == logprobs["text_offset"]


def test_a_limit_is_cut_to_what_fits_a_list_of_prompts() -> None:
    assert [one["finish_reason"] for one in choices(prompt=["a" * 32000, "b"], max_tokens=100)] == ["length"] * 2


def test_a_prompt_with_the_beginning_of_its_answer_gets_the_rest() -> None:
    text = choices(max_tokens=12)[0]["text"]
    for said in (1, 5, 11):
        assert choices(prompt="abcdefgh" + text[: 4 * said], max_tokens=12 - said)[0]["text"] == text[4 * said :]
