"""Heads and chunk framing, in any pieces: where an answer ends, what is passed on, where it may be cut."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.dataplane.http.response_parser import (
    CHUNKED,
    LENGTH,
    MAX_HEAD_BYTES,
    NO_BODY,
    UNTIL_CLOSE,
    BadChunk,
    BadHead,
    ChunkScanner,
    ParsedHead,
    begin,
    events_end,
    memory,
    payloads,
)


def head(*lines: str, status: str = "200 OK", version: str = "1.1") -> bytes:
    return "\r\n".join([f"HTTP/{version} {status}", *lines, "", ""]).encode("latin-1")


def read(data: bytes) -> ParsedHead:
    """The head of `data`, which is whole. Read twice, because the second time may be from the cache."""
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
def test_keep_alive_follows_from_the_head(lines: list[str], version: str, keep: bool) -> None:
    assert read(head(*lines, version=version)).head.keep is keep


def test_an_answer_without_a_body_does_not_mark_its_cached_head_as_closing() -> None:
    begin(head("x-like: it", "content-length: 0"), memory())
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
def test_bytes_that_are_no_head_are_refused(data: bytes) -> None:
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


LINES = st.sampled_from(
    [b"data: a", b"data: bc", b": comment", b"event: x", b"\n", b"\n\n", b"\r\n", b"\r\n\r\n", b"\r"]
)


@st.composite
def messages(draw: st.DrawFn) -> tuple[list[bytes], bytes, bytes]:
    """Chunk payloads, the message they make, and what follows it."""
    parts = draw(st.lists(st.lists(LINES, min_size=1, max_size=4).map(b"".join), max_size=8))
    extension = draw(st.sampled_from([b"", b";a=b", b' ; a="b"']))
    trailer = draw(st.sampled_from([b"", b"x-a: 1\r\n", b"x-a: 1\r\nx-b: 2\r\n"]))
    case = draw(st.sampled_from([b"%x", b"%X", b"000%x"]))
    wire = b"".join(case % len(part) + extension + b"\r\n" + part + b"\r\n" for part in parts)
    return parts, wire + b"0\r\n" + trailer + b"\r\n", draw(st.sampled_from([b"", b"HTTP/1.1 200 OK\r\n"]))


def cut(data: bytes, places: list[int]) -> list[bytes]:
    """`data` in pieces."""
    at = [0, *sorted(place % (len(data) + 1) for place in places), len(data)]
    return [data[a:b] for a, b in pairwise(at) if a < b]


SPLITS = st.lists(st.integers(0, 10_000), max_size=12)


def walk(pieces: list[bytes]) -> tuple[int, list[int]]:
    """Where the message ended and all safe positions, both from its start."""
    scanner, seen, safe = ChunkScanner(), 0, []
    for piece in pieces:
        end = scanner.feed(piece)
        if scanner.safe:
            safe.append(seen + scanner.safe)
        if end >= 0:
            return seen + end, safe
        seen += len(piece)
    return -1, safe


def boundaries(parts: list[bytes], wire: bytes) -> set[int]:
    """Positions right after a chunk at which the payload since the last such position ends with a whole event."""
    found, at, payload = set(), 0, b""
    for part in parts:
        at = wire.index(b"\n", at) + 1 + len(part) + 2
        payload += part
        if payload.endswith((b"\n\n", b"\r\n\r\n")):
            found.add(at)
            payload = b""
    return found


@given(messages(), SPLITS)
def test_the_end_is_found_whatever_the_pieces(message: tuple[list[bytes], bytes, bytes], places: list[int]) -> None:
    _, wire, rest = message
    assert walk(cut(wire + rest, places))[0] == len(wire)


@given(messages(), SPLITS)
def test_an_unfinished_message_has_no_end(message: tuple[list[bytes], bytes, bytes], places: list[int]) -> None:
    _, wire, _ = message
    assert walk(cut(wire[:-1], places))[0] == -1


@given(messages(), SPLITS)
def test_a_safe_position_is_the_end_of_an_event_and_of_a_chunk(
    message: tuple[list[bytes], bytes, bytes], places: list[int]
) -> None:
    parts, wire, _ = message
    assert set(walk(cut(wire, places))[1]) <= boundaries(parts, wire)


@given(messages())
def test_no_event_is_held_back_however_its_bytes_come(message: tuple[list[bytes], bytes, bytes]) -> None:
    parts, wire, _ = message
    bytewise = [wire[at : at + 1] for at in range(len(wire))]
    assert set(walk(bytewise)[1]) == boundaries(parts, wire)


@given(messages(), SPLITS)
def test_the_payload_is_the_same_whatever_the_pieces(
    message: tuple[list[bytes], bytes, bytes], places: list[int]
) -> None:
    parts, wire, rest = message
    scanner, out, seen = ChunkScanner(), b"", 0
    for piece in cut(wire + rest, places):
        found, end = payloads(scanner, piece)
        out += b"".join(found)
        if end >= 0:
            assert seen + end == len(wire)
            break
        seen += len(piece)
    else:
        pytest.fail("the end was not seen")
    assert out == b"".join(parts)


@given(st.binary(max_size=300), SPLITS)
def test_any_bytes_are_followed_or_refused(data: bytes, places: list[int]) -> None:
    try:
        end, safe = walk(cut(data, places))
    except BadChunk:
        return
    assert -1 <= end <= len(data)
    assert all(0 < position <= len(data) for position in safe)


TOKEN = b'data: {"choices":[]}\n\n'


@pytest.mark.parametrize(
    ("wire", "safe"),
    [
        (b"16\r\n" + TOKEN + b"\r\n", True),
        (b"1F4\r\n" + b"x" * 498 + b"\n\n\r\n", True),
        (b"16;a\r\n" + TOKEN + b"\r\n", True),
        (b"016\r\n" + TOKEN + b"\r\n", True),
        (b"0016\r\n" + TOKEN + b"\r\n", True),
        (b"15\r\n" + TOKEN[:-1] + b"\r\n", False),
        (b"17\r\n" + TOKEN + b"\r\n", False),
        (b"18\r\n" + TOKEN + b"\r\n", False),
        (b"16\r\n" + TOKEN + b"\r\n5\r\nhello\r\n", False),
        (b"b\r\ndata: 123\n\n\r\n", True),
    ],
)
def test_the_fast_path_for_a_tokens_event_agrees_with_the_slow_one(wire: bytes, safe: bool) -> None:
    whole, in_bytes = ChunkScanner(), ChunkScanner()
    assert whole.feed(wire) == -1
    assert (whole.safe == len(wire)) is safe
    last = 0
    for at in range(len(wire)):
        assert in_bytes.feed(wire[at : at + 1]) == -1
        last = at + 1 if in_bytes.safe else last
    assert (last == len(wire)) is safe
    assert whole.left == in_bytes.left


@pytest.mark.parametrize(
    "wire",
    [
        b"zz\r\n",
        b"\r\n",
        b"-1\r\n",
        b"+1\r\n",
        b"0x1\r\n",
        b"1_0\r\n",
        b" 1\r\n",
        b"5\r\nabcdefgh",
        b"f" * 16 + b"\r\n",
    ],
)
def test_bytes_that_are_no_chunk_are_refused(wire: bytes) -> None:
    with pytest.raises(BadChunk):
        ChunkScanner().feed(wire)


def test_a_chunk_header_that_never_ends_is_refused() -> None:
    scanner = ChunkScanner()
    with pytest.raises(BadChunk, match="without an end"):
        for _ in range(100):
            scanner.feed(b"1" * 100)


@pytest.mark.parametrize(
    ("payload", "end"),
    [
        (b"", 0),
        (b"data: a", 0),
        (b"data: a\n", 0),
        (b"data: a\n\n", 9),
        (b"data: a\n\ndata: b", 9),
        (b"data: a\r\n\r\ndata", 11),
        (b"\n\n", 2),
        (b"\r\n\r\n", 4),
        (b"a\r\n\r\nb\n\nc", 8),
        (b"a\n\nb\r\n\r\nc", 8),
    ],
)
def test_the_last_event_of_a_payload_is_found(payload: bytes, end: int) -> None:
    assert events_end(payload) == end
