"""Chunk framing, in any pieces: where a message ends, what is passed on of it, and what has two readings."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.dataplane.http.chunked import LAST_CHUNK, BadChunk, ChunkScanner, chunk, size_line
from tests.fakes.each_case import each_case

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


def follow(pieces: list[bytes], payload: list[bytes] | None = None) -> tuple[int, bytes, list[int]]:
    """Where the message ended (-1: it did not), what may be passed on of it, and the ends of its whole chunks."""
    scanner, rest, begins, passed, safe = ChunkScanner(), b"", 0, b"", []
    for piece in pieces:
        data = rest + piece
        end = scanner.feed(data, payload)
        if scanner.safe:
            safe.append(begins + scanner.safe)
        passed += scanner.passed(data, end)
        if end >= 0:
            return begins + end, passed, safe
        begins += scanner.settled
        rest = data[scanner.settled :]
    return -1, passed, safe


def ends(parts: list[bytes], wire: bytes) -> list[int]:
    """The positions right after each chunk."""
    found, at = [], 0
    for part in parts:
        at = wire.index(b"\n", at) + 1 + len(part) + 2
        found.append(at)
    return found


@given(messages(), SPLITS)
def test_the_end_is_found_whatever_the_pieces(message: tuple[list[bytes], bytes, bytes], places: list[int]) -> None:
    _, wire, rest = message
    assert follow(cut(wire + rest, places))[0] == len(wire)


@given(messages(), SPLITS)
def test_an_unfinished_message_has_no_end(message: tuple[list[bytes], bytes, bytes], places: list[int]) -> None:
    _, wire, _ = message
    assert follow(cut(wire[:-1], places))[0] == -1


@given(messages(), SPLITS)
def test_chunks_are_passed_on_as_they_came_and_trailers_are_not(
    message: tuple[list[bytes], bytes, bytes], places: list[int]
) -> None:
    parts, wire, rest = message
    *_, last = [0, *ends(parts, wire)]
    assert follow(cut(wire + rest, places))[1] == wire[:last] + LAST_CHUNK


@given(messages(), SPLITS)
def test_a_safe_position_is_the_end_of_a_chunk(message: tuple[list[bytes], bytes, bytes], places: list[int]) -> None:
    parts, wire, _ = message
    assert set(follow(cut(wire, places))[2]) <= set(ends(parts, wire))


@given(messages())
def test_no_whole_chunk_is_held_back_however_its_bytes_come(message: tuple[list[bytes], bytes, bytes]) -> None:
    """Case D 15."""
    parts, wire, _ = message
    bytewise = [wire[at : at + 1] for at in range(len(wire))]
    assert follow(bytewise)[2] == ends(parts, wire)


@given(messages(), SPLITS)
def test_the_payload_is_the_same_whatever_the_pieces(
    message: tuple[list[bytes], bytes, bytes], places: list[int]
) -> None:
    parts, wire, rest = message
    out: list[bytes] = []
    assert follow(cut(wire + rest, places), out)[0] == len(wire)
    assert b"".join(out) == b"".join(parts)


@given(st.binary(max_size=300), SPLITS)
def test_any_bytes_are_followed_or_refused(data: bytes, places: list[int]) -> None:
    try:
        end, passed, safe = follow(cut(data, places))
    except BadChunk:
        return
    assert -1 <= end <= len(data)
    assert len(passed) <= len(data) + len(LAST_CHUNK)
    assert all(0 < position <= len(data) for position in safe)


TOKEN = b'data: {"choices":[]}\n\n'


@each_case(
    ("wire", "chunks"),
    [
        (b"16\r\n" + TOKEN + b"\r\n", 1),
        (b"1F4\r\n" + b"x" * 500 + b"\r\n", 1),
        (b"16;a\r\n" + TOKEN + b"\r\n", 1),
        (b"016\r\n" + TOKEN + b"\r\n", 1),
        (b"0016\r\n" + TOKEN + b"\r\n", 1),
        (b"17\r\n" + TOKEN, 0),
        (b"18\r\n" + TOKEN + b"\r\n", 0),
        (b"16\r\n" + TOKEN + b"\r\n5\r\nhello\r\n", 2),
        ((b"16\r\n" + TOKEN + b"\r\n") * 3 + b"16\r\nda", 3),
        (b"b\r\ndata: 123\n\n\r\n", 1),
    ],
)
def test_the_fast_path_for_a_tokens_event_agrees_with_the_slow_one(wire: bytes, chunks: int) -> None:
    in_bytes = follow([wire[at : at + 1] for at in range(len(wire))])
    whole = follow([wire])
    assert len(in_bytes[2]) == chunks
    assert whole[:2] == in_bytes[:2]
    assert whole[2] == in_bytes[2][-1:]


DATA = b"hello\r\n"

AMBIGUOUS = [
    *(b"zz\r\n", b"\r\n", b"-1\r\n", b"+1\r\n", b"0x1\r\n", b"1_0\r\n", b" 1\r\n", b"f" * 16 + b"\r\n"),
    *(b"5\r\nabcdefgh", b"5\n" + DATA, b"5\r\r\n" + DATA, b"5\r\nhelloX\n", b"5\r\nhello\n1", b"5\r\nhello\r0"),
    *(b"5;a\nb\r\n" + DATA, b"5;a\rb\r\n" + DATA, b"5;\x00\r\n" + DATA, b"5;\n" + DATA, b'5;a="\r\n"\r\n', b"5,\r\n"),
    *(b"5;\r\n" + DATA, b'5;a="b\r\n' + DATA, b"5 \r\n" + DATA, b"5\t\r\n" + DATA, b"5;a=\r\n" + DATA, b"5a b\r\n"),
    *(b"0\n\r\n", b"0\r\n\n", b"0\r\nx: y\nz: a\r\n\r\n", b"0\r\nx: y\rz: a\r\n\r\n", b"0\r\nrubbish\r\n\r\n"),
    *(
        b"0\r\nx : y\r\n\r\n",
        b"0\r\nx: \x00\r\n\r\n",
        b"0\r\n: y\r\n\r\n",
        b"0\r\nx: y\r\n z\r\n\r\n",
        b"0\r\n x: y\r\n",
    ),
]


@each_case("size", [1, 4, 100])
@each_case("wire", AMBIGUOUS)
def test_framing_with_two_readings_is_refused(wire: bytes, size: int) -> None:
    """Case E 23."""
    with pytest.raises(BadChunk):
        follow([wire[at : at + size] for at in range(0, len(wire), size)])


@each_case(
    "name",
    ["Set-Cookie", "content-length", "Transfer-Encoding", "HOST", "authorization", "te", "x-turnout-pool", "vary"],
)
def test_a_trailer_that_would_change_the_message_is_refused(name: str) -> None:
    """Case E 23."""
    wire = b"5\r\n" + DATA + b"0\r\nx-a: 1\r\n%b: 1\r\n\r\n" % name.encode()
    with pytest.raises(BadChunk, match="may not be a trailer"):
        follow([wire])


@each_case("line", [b"5;a", b"5;a=b", b'5;a="b c"', b'5 ; a = "\\"" ; b', b"05", b"5;a;b;c=d", b"000000000000005"])
def test_a_size_may_have_zeros_before_it_and_extensions_behind(line: bytes) -> None:
    assert follow([line + b"\r\n" + DATA + LAST_CHUNK])[0] == len(line) + 2 + len(DATA) + len(LAST_CHUNK)


def endless(*pieces: bytes) -> None:
    """Feed the pieces, the last of them again and again."""
    scanner, rest = ChunkScanner(), b""
    for piece in [*pieces, *[pieces[-1]] * 10_000]:
        scanner.feed(rest + piece)
        rest = (rest + piece)[scanner.settled :]


@pytest.mark.parametrize(
    "pieces",
    [
        [b"0" * 100],
        [b"5;", b"a" * 100],
        [b"0\r\n", b"x: y\r\n"],
        [b"0\r\nx: ", b"y" * 100],
        [b"1;" + b"a" * 100 + b"\r\nx\r\n"],
    ],
)
def test_framing_that_never_ends_is_refused(pieces: list[bytes]) -> None:
    """Case E 21."""
    with pytest.raises(BadChunk):
        endless(*pieces)


def test_a_chunk_of_each_byte_is_ordinary() -> None:
    out: list[bytes] = []
    follow([b"1\r\nx\r\n" * 100_000 + LAST_CHUNK], out)
    assert b"".join(out) == b"x" * 100_000


@pytest.mark.parametrize("size", [1, 15, 16, 26, 4095, 4096, 4097, 100_000])
def test_a_chunk_of_any_size_is_read_as_it_was_written(size: int) -> None:
    data, found = b"x" * size, list[bytes]()
    written = size_line(size) + data + b"\r\n" + chunk(data) + LAST_CHUNK
    assert written.startswith(chunk(data)) and chunk(data).startswith(b"%x\r\n" % size)
    assert ChunkScanner().feed(written, found) == len(written)
    assert found == [data, data]
