"""Looking up heads by their bytes: how a head is split, which ones are stored, and how many."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.dataplane.http.head_cache import NEW_IN_A_ROW, UNSEEN, HeadCache, HeadLookup, split
from tests.fakes.each_case import each_case

HEAD = b"POST / HTTP/1.1\r\nhost: h\r\ncontent-length: %b\r\nx-a: 1\r\n\r\n"


def test_a_head_is_split_around_the_value_of_its_length() -> None:
    found = split(HEAD % b"42" + b"body")
    assert found is not None
    assert (found.length, found.end) == (42, len(HEAD % b"42"))
    assert b"42" not in b"".join(found.key)
    other = split(HEAD % b"7")
    assert other is not None and other.key == found.key


def test_a_head_without_a_length_is_its_own_key() -> None:
    found = split(b"GET / HTTP/1.1\r\nhost: h\r\n\r\n")
    assert found is not None
    assert (found.length, found.key) == (-1, (b"GET / HTTP/1.1\r\nhost: h", b""))


@each_case("value", [b"", b"+1", b"-1", b"1 ", b" 1", b"0x1", b"1_0", b"1, 1", b"1" * 13, b"\xb2"])
def test_a_length_that_is_not_plain_digits_is_left_to_the_parser(value: bytes) -> None:
    assert split(HEAD % value) is None


HALF, BLANK, LOWER = b"POST / HTTP/1.1\r\n", b"\r\nPOST / HTTP/1.1\r\n\r\n", b"post / HTTP/1.1\r\n\r\n"


@pytest.mark.parametrize("data", [HALF, BLANK, LOWER, b"A" * 5000 + b"\r\n\r\n"])
def test_incomplete_and_large_heads_are_left_to_the_parser(data: bytes) -> None:
    assert split(data) is None


def test_a_header_whose_name_ends_in_length_is_not_read_as_the_length() -> None:
    assert split(b"POST / HTTP/1.1\r\nx-content-length: 3\r\n\r\n") is None
    assert split(b"POST / HTTP/1.1\r\nstrength: 3\r\ncontent-length: 5\r\n\r\n") is None


@given(st.integers(0, 10**12 - 1), st.binary(max_size=20))
def test_bytes_after_a_head_do_not_change_how_it_is_split(length: int, rest: bytes) -> None:
    data = HEAD % b"%d" % length
    found = split(data + rest)
    assert found is not None
    assert (found.length, found.end) == (length, len(data))


def test_a_learned_head_is_found() -> None:
    heads: HeadCache[int] = HeadCache()
    found = split(HEAD % b"1")
    assert found is not None
    assert heads.get(found.key) is None
    heads.learn(found.key, 5)
    assert (heads.get(found.key), len(heads)) == (5, 1)


@pytest.mark.parametrize("line", [b"x-a: 1\n", b"x-a: 1\r", b"x-a: 1\n\r"])
def test_a_head_with_odd_line_ends_is_not_learned(line: bytes) -> None:
    heads: HeadCache[int] = HeadCache()
    heads.learn((b"GET / HTTP/1.1\r\n" + line + b"x-b: 2", b""), 5)
    assert len(heads) == 0


def test_the_cache_is_bounded() -> None:
    heads: HeadCache[int] = HeadCache()
    for number in range(3 * HeadCache.MAX_ENTRIES):
        heads.learn((b"GET /%d HTTP/1.1" % number, b""), number)
    assert len(heads) <= HeadCache.MAX_ENTRIES
    assert heads.get((b"GET /%d HTTP/1.1" % number, b"")) == number


@pytest.mark.parametrize("value", [b"42", b"7", b"0", b"1" * 12, b"007"])
def test_the_last_head_is_found_with_any_length(value: bytes) -> None:
    recall = known(HEAD % b"1234")
    assert recall.recall(HEAD % value + b"body") == ("it", len(HEAD % value), int(value))


@each_case("value", [b"", b"+1", b"-1", b"1 ", b" 1", b"0x1", b"1_0", b"1, 1", b"1" * 13, b"\xb2"])
def test_the_last_head_with_a_length_that_is_not_digits_is_not_found(value: bytes) -> None:
    assert known(HEAD % b"1234").recall(HEAD % value) is None


@each_case("end", range(len(HEAD % b"42")))
def test_a_part_of_the_last_head_is_not_found(end: int) -> None:
    assert known(HEAD % b"42").recall((HEAD % b"42")[: end + 1][:-1] or b"P") is None


def test_a_connection_whose_heads_are_all_new_stops_storing_them() -> None:
    heads: HeadCache[int] = HeadCache()
    recall = HeadLookup(heads, UNSEEN)
    for number in range(NEW_IN_A_ROW + 3 * (UNSEEN + 1)):
        _ask(recall, heads, b"GET /%d HTTP/1.1\r\n\r\n" % number)
    assert len(heads) == NEW_IN_A_ROW + 3


def test_a_connection_whose_heads_were_new_and_come_again_finds_them_again() -> None:
    heads: HeadCache[int] = HeadCache()
    recall = HeadLookup(heads, UNSEEN)
    for number in range(NEW_IN_A_ROW):
        _ask(recall, heads, b"GET /%d HTTP/1.1\r\n\r\n" % number)
    same = b"GET / HTTP/1.1\r\n\r\n"
    asked = 0
    while recall.recall(same) is None:
        _ask(recall, heads, same)
        asked += 1
        assert recall.recall(same[:5]) is None, "a head in parts is looked up as often"
    assert asked <= UNSEEN + 1
    assert all(recall.recall(same) is not None for _ in range(2 * UNSEEN))


def _ask(recall: HeadLookup[int], heads: HeadCache[int], head: bytes) -> None:
    """A request with this head, which its parser learns where it may."""
    if recall.recall(head) is None and recall.missed is not None:
        heads.learn(recall.missed.key, 1)


def known(head: bytes) -> HeadLookup[str]:
    """The look-up of a connection whose last head was `head`."""
    heads: HeadCache[str] = HeadCache()
    found = split(head)
    assert found is not None
    heads.learn(found.key, "it")
    recall = HeadLookup(heads)
    assert recall.recall(head) is not None
    return recall


def test_a_head_that_is_said_to_be_new_is_not_looked_up_and_the_next_one_is() -> None:
    heads = HeadCache[str]()
    lookup = HeadLookup(heads)
    found = split(HEAD % b"2")
    assert found is not None
    heads.learn(found.key, "known")
    lookup.expect_new()
    assert (lookup.recall(HEAD % b"2"), lookup.missed) == (None, None)
    assert lookup.recall(HEAD % b"2") == ("known", len(HEAD % b"2"), 2)
