"""Which engine blocks a prompt's bytes become, against prompts whose blocks are known."""

from __future__ import annotations

from array import array

from hypothesis import given
from hypothesis import strategies as st

from statesync.kv_events.paths import PromptChain, PromptPaths
from statesync.prefix.block_hash import chain
from tests.statesync.kv_events.prompts import BYTES, keys_of, prompt


def paths_of(*texts: bytes, answer: int = 0) -> PromptPaths:
    paths = PromptPaths(1 << 30)
    for text in texts:
        keys = keys_of(text)
        paths.learn(prompt(text), 0, array("Q", [*keys, *range(1, answer + 1)]), len(keys))
    return paths


def turn(number: int, size: int = 1000) -> bytes:
    return (b'{"role":"user","content":"%d ' % number) + bytes(97 + (number * at) % 26 for at in range(size)) + b'"}'


FIRST = b"[" + turn(1) + b"]"
SECOND = b"[" + turn(1) + b"," + turn(2) + b"]"


def test_the_next_turn_of_a_conversation_finds_all_blocks_of_the_turn_before() -> None:
    path = paths_of(FIRST).find(prompt(SECOND))
    assert path is not None
    assert list(path.keys) == keys_of(FIRST)
    assert path.reach == (len(FIRST) - 1) // 256
    assert path.base_blocks(path.depth) == path.reach
    assert path.base_blocks(path.depth // 2) == path.reach // 2


def test_the_answers_blocks_are_told_from_the_prompts() -> None:
    path = paths_of(FIRST, answer=3).find(prompt(SECOND))
    assert path is not None
    assert path.answer == 3
    assert list(path.keys[:-3]) == keys_of(FIRST)


def test_an_unknown_prompt_has_no_path() -> None:
    assert paths_of(FIRST).find(prompt(b"[" + turn(3) + b"]")) is None


def test_blocks_that_another_prompt_does_not_share_are_cut_from_the_shared_part() -> None:
    other = b"[" + turn(1) + b"," + turn(3) + b"]"
    paths = PromptPaths(1 << 30)
    wrong = [*keys_of(SECOND)[: 2 + len(FIRST) // BYTES], *range(1, 40)]
    paths.learn(prompt(SECOND), 0, array("Q", wrong), len(wrong))
    paths.learn(prompt(other), 0, array("Q", keys_of(other)), len(keys_of(other)))
    path = paths.find(prompt(b"[" + turn(1) + b"," + turn(4) + b"]"))
    assert path is not None
    assert list(path.keys) == keys_of(other)[: len(path.keys)]


def test_blocks_before_the_first_known_one_stay_unknown() -> None:
    paths, keys = PromptPaths(1 << 30), keys_of(FIRST)
    paths.learn(prompt(FIRST), 5, array("Q", keys[5:]), len(keys))
    path = paths.find(prompt(SECOND))
    assert path is not None
    assert (path.first, path.depth, list(path.keys)) == (5, len(keys), keys[5:])
    assert (path.key(4), path.key(5), path.key(len(keys))) == (0, keys[5], 0)


def test_what_was_learned_longest_ago_goes_first() -> None:
    paths = PromptPaths(60_000)
    for number in range(40):
        text = b"[" + turn(number, 3000) + b"]"
        paths.learn(prompt(text), 0, array("Q", keys_of(text)), len(keys_of(text)))
    assert paths.bytes_used <= 60_000
    assert paths.find(prompt(b"[" + turn(39, 3000) + b"]")) is not None
    assert paths.find(prompt(b"[" + turn(0, 3000) + b"]")) is None


@given(st.lists(st.lists(st.integers(1, 4), min_size=1, max_size=5), min_size=1, max_size=6))
def test_a_path_has_only_blocks_of_prompts_with_the_same_bytes(talks: list[list[int]]) -> None:
    texts = [b"[" + b",".join(turn(each, 150 * each) for each in talk) + b"]" for talk in talks]
    paths = paths_of(*texts)
    for text in texts:
        path = paths.find(prompt(text))
        if path is not None:
            assert list(path.keys) == keys_of(text)[: len(path.keys)]


def test_a_prompt_carries_its_bytes() -> None:
    links = chain("m", (FIRST,))
    assert PromptChain(links, FIRST) == links
    assert PromptChain(links, FIRST).data == FIRST
