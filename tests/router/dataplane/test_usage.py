"""What the end of an answer reports of its tokens."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from router.dataplane.usage import _search, usage_of
from tests.fakes.each_case import each_case


@each_case(
    ("tail", "expected"),
    [
        (b'"usage": {"prompt_tokens": 3, "total_tokens": 7, "completion_tokens": 4}}', (3, 4)),
        (b'"usage":{"input_tokens":3,"input_tokens_details":{"cached_tokens":2},"output_tokens":4}', (3, 4)),
        (b'"usage":{"input_tokens":3,"cache_creation_input_tokens":5,"cache_read_input_tokens":7}', (15, None)),
        (b'"usage":{"output_tokens":4}}', (None, 4)),
        (b'"usage":{"prompt_tokens":1}, "usage":{"prompt_tokens":9,"completion_tokens":8}', (9, 8)),
        (b'"prompt_tokens":1', (None, None)),
        (b'"usage":null}', (None, None)),
        (b"", (None, None)),
        (b'"usage":{"prompt_tokens":3,"completion_tokens":4,"x":{"prompt_tokens":5}}', (5, 4)),
        (b'"usage":{"prompt_tokens":1234567890,"completion_tokens":4}', (None, 4)),
        (b'"usage":{"prompt_tokens":"3","completion_tokens":4}', (None, 4)),
        (b'"usage":{"prompt_tokens":3,"completion_tokens":4', (3, 4)),
        (b'"usage":{"prompt_tokens":  3,"completion_tokens":', (None, None)),
        (b'"usage":{"prompt_tokens":3\n,"completion_tokens":4\n}', (3, 4)),
        (b'"\xff\xc3\xbc","usage":{"prompt_tokens":3,"completion_tokens":4}', (3, 4)),
    ],
)
def test_tokens_are_those_of_the_last_usage(tail: bytes, expected: tuple[int | None, int | None]) -> None:
    named = usage_of(tail).named()
    assert (named.get("prompt_tokens"), named.get("completion_tokens")) == expected


PIECES = st.sampled_from(
    [
        b'"usage":',
        b'"prompt_tokens":',
        b'"completion_tokens":',
        b'"input_tokens":',
        b'"output_tokens":',
        b'"cache_read_input_tokens":',
        b"7",
        b"1234567890",
        b" ",
        b",",
        b"{",
        b"}",
        b"null",
    ]
)


@given(st.lists(PIECES, max_size=12).map(b"".join))
def test_the_short_way_finds_what_the_long_one_does(tail: bytes) -> None:
    at = tail.rfind(b'"usage":')
    assert usage_of(tail).named() == (_search(tail, at).named() if at >= 0 else {})
