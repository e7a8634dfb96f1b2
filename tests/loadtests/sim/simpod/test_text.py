from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from loadtests.sim.simpod.text import (
    answer_length,
    answer_text,
    chained_ids,
    chat_begun,
    chat_text,
    going_on,
    pieces_of,
    prompt_of,
)

SEEDS = st.integers(0, 2**64 - 1)


@given(SEEDS, st.integers(0, 6000))
def test_an_answer_has_the_requested_number_of_tokens(seed: int, tokens: int) -> None:
    pieces = pieces_of(answer_text(seed, tokens))
    assert len(pieces) == tokens
    assert all(len(piece) == 4 and piece.isascii() for piece in pieces)


@given(SEEDS, st.integers(0, 100))
def test_a_longer_answer_starts_like_a_shorter_one(seed: int, tokens: int) -> None:
    assert answer_text(seed, 2 * tokens).startswith(answer_text(seed, tokens))


@given(SEEDS)
def test_natural_lengths_stay_within_eight_means(seed: int) -> None:
    assert 1 <= answer_length(seed, 10.0) <= 80


def test_natural_lengths_have_about_the_requested_mean() -> None:
    lengths = [answer_length(prompt_of(b"%d" % number).seed, 100.0) for number in range(4000)]
    assert 90 < sum(lengths) / len(lengths) < 110


@given(st.binary(max_size=600), st.binary(max_size=100))
def test_equal_prefixes_have_equal_ids_and_all_ids_after_a_difference_differ(shared: bytes, tail: bytes) -> None:
    ids, longer = chained_ids(shared, 4), chained_ids(shared + tail, 4)
    assert len(ids) == len(shared) // 16
    assert longer[: len(ids)] == ids
    changed = chained_ids(b"\x00" + shared[1:] if shared[:1] != b"\x00" else b"\x01" + shared[1:], 4)
    assert not set(changed) & set(ids)


def test_the_next_turn_starts_with_the_last_prompt_and_its_answer() -> None:
    said: list[object] = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}]
    first = chat_text(said)
    turns = [first]
    for _ in range(3):
        answer = answer_text(prompt_of(turns[-1]).seed, 20)
        said += [{"role": "assistant", "content": answer.decode()}, {"role": "user", "content": "Go on"}]
        turns.append(chat_text(said))
        assert turns[-1].startswith(turns[-2] + answer)
    assert all(len(chained_ids(a, 4)) < len(chained_ids(b, 4)) for a, b in pairwise(turns))


def test_content_may_be_in_parts_or_missing() -> None:
    parts = [{"type": "text", "text": "a"}, {"type": "image_url", "image_url": {"url": "x"}}, "b"]
    text = chat_text([{"role": "user", "content": parts}, {"role": "assistant", "content": None}])
    assert text == b'<|user|>\na{"type":"image_url","image_url":{"url":"x"}}b\n<|assistant|>\n\n<|assistant|>\n'


@given(st.text(max_size=20), st.integers(1, 40), st.integers(1, 40))
def test_the_next_word_follows_from_all_words_before_it(text: str, said: int, more: int) -> None:
    prompt = going_on(prompt_of(f"{text}?".encode()))
    answer = answer_text(prompt.seed, said + more)
    longer = going_on(prompt_of(prompt.text + answer[: 4 * said]))
    assert (longer.seed, longer.begun) == (prompt.seed, 4 * said)
    assert longer.text[len(prompt.text) :] + answer_text(longer.seed, said + more)[longer.begun :] == answer


def test_the_beginning_of_an_answer_is_the_last_message() -> None:
    messages = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "Hel"}]
    assert chat_begun(messages) == chat_text(messages[:1]) + b"Hel"
