"""A pod's head: how its end is found, what is passed on, and that a remembered head means what it meant."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.dataplane.http.response_head import (
    CHUNKED,
    LENGTH,
    MAX_HEAD_BYTES,
    NO_BODY,
    UNTIL_CLOSE,
    BadHead,
    ParsedHead,
    begin,
    memory,
)


def head(*lines: str, status: str = "200 OK", version: str = "1.1") -> bytes:
    return "\r\n".join([f"HTTP/{version} {status}", *lines, "", ""]).encode("latin-1")


def read(data: bytes) -> ParsedHead:
    """The head, which is whole; read twice, for the second time may be from memory."""
    first, second = begin(data, memory()), begin(data, memory())
    assert first is not None and second is not None
    assert (first.end, first.length) == (second.end, second.length)
    assert first.head[:4] == second.head[:4]
    assert b"".join(first.head.kept) == b"".join(second.head.kept)
    return second


@pytest.mark.parametrize(
    ("lines", "framing", "length"),
    [
        (["content-length: 5"], LENGTH, 5),
        (["Content-Length:5"], LENGTH, 5),
        (["content-length:\t5"], LENGTH, 5),
        (["content-length: 5 "], LENGTH, 5),
        (["content-length: 0"], LENGTH, 0),
        (["x-strength: 9", "content-length: 5"], LENGTH, 5),
        (["content-length: 5", "x-length: 9"], LENGTH, 5),
        (["transfer-encoding: chunked"], CHUNKED, -1),
        (["Transfer-Encoding: Chunked"], CHUNKED, -1),
        ([], UNTIL_CLOSE, -1),
    ],
)
def test_the_end_of_an_answer_follows_from_its_head(lines: list[str], framing: int, length: int) -> None:
    found = read(head(*lines))
    assert (found.head.framing, found.length) == (framing, length)


@pytest.mark.parametrize("status", ["100 Continue", "103 Early Hints", "204 No Content", "304 Not Modified"])
def test_some_answers_never_have_a_body(status: str) -> None:
    found = read(head("content-length: 5", status=status))
    assert (found.head.framing, found.head.status) == (NO_BODY, int(status[:3]))


@pytest.mark.parametrize(
    ("lines", "version", "keep"),
    [
        (["content-length: 5"], "1.1", True),
        (["content-length: 0"], "1.1", True),
        (["content-length: 0", "connection: close"], "1.1", False),
        (["content-length: 5", "connection: close"], "1.1", False),
        (["content-length: 5"], "1.0", False),
        (["content-length: 5", "connection: keep-alive"], "1.0", True),
        ([], "1.1", False),
    ],
)
def test_whether_the_connection_lives_on_follows_from_its_head(lines: list[str], version: str, keep: bool) -> None:
    assert read(head(*lines, version=version)).head.keep is keep


def test_an_answer_of_no_bytes_does_not_make_those_like_it_end_the_connection() -> None:
    begin(head("x-like: it", "content-length: 0"), memory())
    assert read(head("x-like: it", "content-length: 5")).head.keep


def test_a_stream_is_known_by_its_type() -> None:
    assert read(head("content-type: text/event-stream; charset=utf-8", "transfer-encoding: chunked")).head.sse
    assert not read(head("content-type: application/json", "transfer-encoding: chunked")).head.sse


def test_what_the_connection_names_is_not_kept() -> None:
    kept = b"".join(read(head("connection: close, x-mine", "x-mine: 1", "x-a: 1", "content-length: 1")).head.kept)
    assert b"x-mine" not in kept
    assert b"x-a: 1\r\n" in kept


@given(st.integers(0, 10**9), st.integers(0, 10**9))
def test_two_heads_that_differ_in_length_only_are_kept_apart(one: int, other: int) -> None:
    for length in (one, other, one):
        data = head("server: uvicorn", f"content-length: {length}", "x-a: 1")
        found = read(data + b"body")
        assert (found.length, found.end) == (length, len(data))


@pytest.mark.parametrize("data", [b"", b"H", b"HTTP/1.1 200", head("a: b")[:-1]])
def test_an_unfinished_head_is_waited_for(data: bytes) -> None:
    assert begin(data, memory()) is None


@pytest.mark.parametrize(
    "data",
    [
        b"SSH-2.0",
        head("content-length: x"),
        head("content-length: 1", "content-length: 2"),
        head("content-length: 1", "transfer-encoding: chunked"),
        head("transfer-encoding: gzip, chunked"),
        head("no colon"),
        b"HTTP/1.1 OK\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nx: " + b"a" * MAX_HEAD_BYTES,
    ],
    ids=range(9),
)
def test_what_is_no_head_is_refused(data: bytes) -> None:
    for _ in range(2):
        with pytest.raises(BadHead):
            begin(data, memory())


@given(st.binary(max_size=100), st.booleans())
def test_any_bytes_are_a_head_or_the_beginning_of_one_or_refused(junk: bytes, prefixed: bool) -> None:
    data = b"HTTP/1.1 200 OK\r\n" + junk + b"\r\n\r\n" if prefixed else junk
    try:
        found = begin(data, memory())
    except BadHead:
        return
    assert found is None or found.end <= len(data)
