"""Heads of answers: what is passed on, how the end of the answer is found, and what is no head."""

from __future__ import annotations

from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.dataplane.http.response_parser import (
    CHUNKED,
    LENGTH,
    MAX_HEAD_BYTES,
    MAX_HEADERS,
    NO_BODY,
    UNTIL_CLOSE,
    BadHead,
    ResponseHead,
    memory,
    read_head,
)
from tests.fakes.each_case import each_case


class Read(NamedTuple):
    """A whole head at the beginning of some bytes."""

    head: ResponseHead
    end: int
    length: int


def begin(data: bytes) -> Read | None:
    """What a connection makes of its first bytes."""
    recall = memory()
    found = (recall.recall(data) if data else None) or read_head(data, recall)
    return None if found is None else Read(*found)


def head(*lines: str, status: str = "200 OK", version: str = "1.1") -> bytes:
    return "\r\n".join([f"HTTP/{version} {status}", *lines, "", ""]).encode("latin-1")


def read(data: bytes) -> Read:
    """The head of `data`, which is whole. Read twice, because the second time may be from the cache."""
    first, second = begin(data), begin(data)
    assert first is not None and second is not None
    assert (first.end, first.length) == (second.end, second.length)
    assert first.head[:4] == second.head[:4]
    assert b"".join(first.head.kept) == b"".join(second.head.kept)
    return second


@each_case(
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


@each_case(
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
def test_keep_alive_follows_from_the_head(lines: list[str], version: str, keep: bool) -> None:
    assert read(head(*lines, version=version)).head.keep is keep


def test_an_answer_without_a_body_does_not_mark_its_cached_head_as_closing() -> None:
    begin(head("x-like: it", "content-length: 0"))
    assert read(head("x-like: it", "content-length: 5")).head.keep


def test_a_stream_is_recognised_by_its_content_type() -> None:
    assert read(head("content-type: text/event-stream; charset=utf-8", "transfer-encoding: chunked")).head.sse
    assert not read(head("content-type: application/json", "transfer-encoding: chunked")).head.sse


def test_headers_named_by_connection_are_not_kept() -> None:
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
def test_an_incomplete_head_is_none(data: bytes) -> None:
    assert begin(data) is None


@each_case(
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
def test_bytes_that_are_no_head_are_refused(data: bytes) -> None:
    for _ in range(2):
        with pytest.raises(BadHead):
            begin(data)


@given(st.binary(max_size=100), st.booleans())
def test_any_bytes_are_a_head_or_the_beginning_of_one_or_refused(junk: bytes, prefixed: bool) -> None:
    data = b"HTTP/1.1 200 OK\r\n" + junk + b"\r\n\r\n" if prefixed else junk
    try:
        found = begin(data)
    except BadHead:
        return
    assert found is None or found.end <= len(data)


@each_case(
    "line",
    [
        *(
            b"HTTP/1.1  200 OK",
            b" HTTP/1.1 200 OK",
            b"HTTP/1.1 99 x",
            b"HTTP/1.1 600 x",
            b"HTTP/1.1 1000 x",
            b"HTTP/1.1 abc",
        ),
        *(
            b"HTTP/2 200 OK",
            b"HTTP/0.9 200 OK",
            b"ICY 200 OK",
            b"HTTP/1.1 200 O\rK",
            b"HTTP/1.1 200 O\x00K",
            b"HTTP/1.2 200",
        ),
        *(b"http/1.1 200 OK", b"HTTP/1.1 200OK", b"HTTP/1.1 +20 x", b"HTTP/1.1 101 Switching Protocols", b""),
    ],
)
def test_a_status_line_has_one_form(line: bytes) -> None:
    """Case E 23."""
    with pytest.raises(BadHead):
        begin(line + b"\r\ncontent-length: 0\r\n\r\n")


@each_case("line", ["x: a\rb", "x: a\nb", "x: a\x00b", "x: a\r\n b", "x : a", ": a", "x y: a", "x: \x7f"])
def test_a_malformed_header_is_no_head(line: str) -> None:
    """Case E 23."""
    with pytest.raises(BadHead):
        begin(head(line, "content-length: 0"))


@each_case(
    ("lines", "version"),
    [
        (["content-length: 2", "content-length: 2"], "1.1"),
        (["content-length: 2", "transfer-encoding: chunked"], "1.1"),
        (["transfer-encoding: chunked", "transfer-encoding: chunked"], "1.1"),
        (["transfer-encoding: identity"], "1.1"),
        (["content-length: +2"], "1.1"),
        (["content-length: 18446744073709551616"], "1.1"),
        (["transfer-encoding: chunked"], "1.0"),
    ],
)
def test_an_answer_with_two_ends_is_refused(lines: list[str], version: str) -> None:
    """Case E 23."""
    with pytest.raises(BadHead):
        begin(head(*lines, version=version))


def test_a_head_has_a_largest_size_and_number_of_headers() -> None:
    assert begin(head(*["x: y"] * MAX_HEADERS)) is not None
    with pytest.raises(BadHead):
        begin(head(*["x: y"] * (MAX_HEADERS + 1)))
    with pytest.raises(BadHead):
        begin(head("x: " + "y" * MAX_HEAD_BYTES))


def test_a_line_that_ends_with_lf_alone_is_refused_before_the_head_is_whole() -> None:
    with pytest.raises(BadHead):
        begin(b"HTTP/1.1 200 OK\ncontent-length: 0\n\n")


def test_no_content_has_no_length_and_not_modified_may_have_one() -> None:
    found = begin(head("content-length: 5", status="204 No Content"))
    assert found is not None and found.length == -1
    found = begin(head("content-length: 5", status="304 Not Modified"))
    assert found is not None and found.length == 5


@pytest.mark.parametrize(
    ("coding", "encoded"), [("gzip", True), ("br", True), ("identity", False), ("Identity", False), (None, False)]
)
def test_a_compressed_body_is_marked(coding: str | None, encoded: bool) -> None:
    """Case D 15."""
    lines = [
        "content-type: text/event-stream",
        "content-length: 1",
        *([f"content-encoding: {coding}"] if coding else []),
    ]
    assert read(head(*lines)).head.encoded is encoded
