"""With which token ids another pod can go on: never with a part of a character at their end."""

from __future__ import annotations

from router.dataplane.failover.token_trail import TokenTrail


def trail(*chunks: tuple[bytes, str]) -> TokenTrail:
    """What is known after a prompt of two tokens and these chunks."""
    made, tokens = TokenTrail(), 0
    made.begin(b"1,2", 0, 0)
    for ids, text in chunks:
        before, tokens = tokens, tokens + (ids.count(b",") + 1 if ids else 0)
        made.add(ids, text, before, tokens)
    return made


def known(made: TokenTrail) -> tuple[bytes, int, int]:
    return made.ids, made.tokens, made.chars


def test_a_token_with_text_ends_with_a_whole_character() -> None:
    assert known(trail((b"7", "ab"), (b"8", "é"))) == (b"1,2,7,8", 2, 3)


def test_a_token_without_text_may_end_within_one() -> None:
    made = trail((b"7", "ab"), (b"8", ""))
    assert known(made) == (b"1,2,7", 1, 2)
    assert made.has_more


def test_of_several_tokens_the_last_may_end_within_one() -> None:
    assert known(trail((b"7", "ab"), (b"8,9", "c"))) == (b"1,2,7", 1, 2)


def test_a_text_that_begins_with_ascii_shows_that_nothing_was_kept_back() -> None:
    assert known(trail((b"7", "ab"), (b"8,9", "c"), (b"10,11", "de"))) == (b"1,2,7,8,9", 3, 3)
    assert known(trail((b"7", "ab"), (b"8,9", "c"), (b"10,11", "éd"))) == (b"1,2,7", 1, 2)


def test_the_prompt_is_whole() -> None:
    assert known(trail((b"7,8", "é"))) == (b"1,2", 0, 0)


def test_text_without_ids_ends_it() -> None:
    assert trail((b"7", "ab"), (b"", "c"), (b"9", "d")).ids == b""


def test_the_next_pod_begins_with_its_own_prompt() -> None:
    made = trail((b"7", "ab"), (b"8,9", "cd"))
    made.begin(made.ids, 1, 2)
    made.add(b"8", "c", 1, 2)
    assert known(made) == (b"1,2,7,8", 2, 3)
