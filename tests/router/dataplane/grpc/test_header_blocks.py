"""Blocks of headers between two sides, and what is refused."""

from __future__ import annotations

import pytest
from hpack import Encoder, NeverIndexedHeaderTuple
from hpack.hpack import Decoder, encode_integer
from hypothesis import given
from hypothesis import strategies as st

from router.dataplane.grpc.frames import ConnectionBroken, ErrorCode
from router.dataplane.grpc.header_blocks import ANSWER, REQUEST, TRAILERS, UNSAID, HeaderBlocks, allowed, length_of
from router.dataplane.grpc.status import Headers

CALL = [(b":method", b"POST"), (b":scheme", b"http"), (b":path", b"/a.B/C"), (b"te", b"trailers")]
HEADS = st.lists(
    st.tuples(
        st.sampled_from([b"x-a", b"x-b", b"authorization", b"accept"]), st.sampled_from([b"", b"1", b"2" * 900, b"3"])
    ),
    max_size=6,
)


@given(st.lists(HEADS, max_size=30), st.lists(st.sampled_from([0, 100, 4096]), min_size=30, max_size=30))
def test_what_one_side_writes_the_other_reads_however_often_and_with_any_table(
    every: list[Headers], sizes: list[int]
) -> None:
    here, there = HeaderBlocks(), HeaderBlocks()
    for headers, size in zip(every, sizes, strict=False):
        here.limit_table(size)
        for _ in range(3):
            assert there.decode(here.encode(headers), TRAILERS) == headers


@given(st.lists(HEADS, max_size=30), st.lists(st.booleans(), min_size=200, max_size=200))
def test_blocks_that_are_known_are_read_as_by_hpack(every: list[Headers], indexed: list[bool]) -> None:
    encoder, plain, blocks, choice = Encoder(), Decoder(), HeaderBlocks(), iter(indexed)
    for headers in every * 2:
        sent = [pair if next(choice, True) else NeverIndexedHeaderTuple(*pair) for pair in headers]
        block = encoder.encode(sent)
        assert blocks.decode(block, TRAILERS) == [(bytes(n), bytes(v)) for n, v in plain.decode(block, raw=True)]


def test_a_block_means_something_else_after_one_that_changed_the_whole_table() -> None:
    def adds(*values: bytes) -> bytes:
        return b"".join(b"\x40\x01a" + bytes(encode_integer(len(value), 7)) + value for value in values)

    first, blocks = b"0" + b"-" * 2900, HeaderBlocks()
    assert blocks.decode(adds(first), TRAILERS) == [(b"a", first)]
    for number in range(50):
        last = blocks.decode(b"\xbe", TRAILERS)
        assert last == blocks.decode(b"\xbe", TRAILERS)
        pair = [b"%d%s" % (half, b"%03d" % number * 900) for half in range(2)]
        blocks.decode(adds(*pair), TRAILERS)
        assert blocks.decode(b"\xbe", TRAILERS) == [(b"a", pair[1])]


@pytest.mark.parametrize(
    ("sizes", "says"), [([0, 0], [0]), ([100, 0, 7, 50] * 999, [0, 50]), ([9, 9, 4096], [9, 4096])]
)
def test_what_a_table_was_limited_to_is_said_once(sizes: list[int], says: list[int]) -> None:
    blocks, plain = HeaderBlocks(), Encoder()
    for size in sizes:
        blocks.limit_table(size)
    plain.table_size_changes, plain.header_table.resized = says, True
    assert blocks.encode([]) == plain.encode([])
    assert blocks.encode([]) == b""


def test_a_key_is_never_put_into_a_table() -> None:
    there = Decoder()
    (pair,) = there.decode(HeaderBlocks().encode([(b"authorization", b"Bearer a")]), raw=True)
    assert isinstance(pair, NeverIndexedHeaderTuple)
    assert not there.header_table.dynamic_entries


@pytest.mark.parametrize(
    ("kind", "headers", "good"),
    [
        (REQUEST, CALL, True),
        (REQUEST, [*CALL[:3], (b":authority", b"a")], True),
        (REQUEST, CALL[1:], False),
        (REQUEST, [CALL[0], *CALL], False),
        (REQUEST, [*CALL, (b":authority", b"after")], False),
        (REQUEST, [*CALL[:2], (b":path", b"")], False),
        (REQUEST, [*CALL, (b"X-Upper", b"a")], False),
        (REQUEST, [*CALL, (b"x\r\ny", b"a")], False),
        (REQUEST, [*CALL, (b"", b"a")], False),
        (REQUEST, [*CALL, (b"x", b"a\r\nhost: b")], False),
        (REQUEST, [*CALL, (b"x", b"a\0")], False),
        (REQUEST, [*CALL, (b"x", b" a")], False),
        (REQUEST, [*CALL, (b"x", b"a\t")], False),
        (REQUEST, [*CALL, (b"x", b"a b\xc3\xa9")], True),
        (REQUEST, [*CALL, (b"connection", b"close")], False),
        (REQUEST, [*CALL, (b"transfer-encoding", b"chunked")], False),
        (REQUEST, [*CALL[:3], (b"te", b"gzip")], False),
        (ANSWER, [(b":status", b"200")], True),
        (ANSWER, [(b":status", b"200"), (b":path", b"/")], False),
        (ANSWER, [(b"grpc-status", b"0")], False),
        (TRAILERS, [(b"grpc-status", b"0")], True),
        (TRAILERS, [(b":status", b"200")], False),
    ],
)
def test_headers_are_allowed_where_they_stand(kind: int, headers: Headers, good: bool) -> None:
    assert allowed(headers, kind) is good
    assert (HeaderBlocks().decode(Encoder().encode(headers), kind) is not None) is good


@pytest.mark.parametrize("kind", [ANSWER, TRAILERS])
def test_blanks_around_what_a_pod_says_are_taken_off(kind: int) -> None:
    head = [(b":status", b"200")] if kind == ANSWER else []
    block = Encoder().encode([*head, (b"grpc-message", b"\tno such file "), (b"x", b" ")])
    assert HeaderBlocks().decode(block, kind) == [*head, (b"grpc-message", b"no such file"), (b"x", b"")]


@pytest.mark.parametrize(
    ("block", "code"),
    [
        (b"\xff\xff\xff", ErrorCode.COMPRESSION_ERROR),
        (b"\x80", ErrorCode.COMPRESSION_ERROR),
        (b"\x3f\xff\xff\x7f", ErrorCode.COMPRESSION_ERROR),
        (Encoder().encode([(b"x", b"y" * 70_000)]), ErrorCode.ENHANCE_YOUR_CALM),
    ],
)
def test_a_block_that_cannot_be_read_breaks_the_connection(block: bytes, code: ErrorCode) -> None:
    with pytest.raises(ConnectionBroken) as broken:
        HeaderBlocks().decode(block, REQUEST)
    assert broken.value.code is code


def test_a_length_is_that_of_the_body_but_where_an_answer_has_none() -> None:
    length = (b"content-length", b"5")
    assert [length_of([(b":status", status), length]) for status in (b"200", b"304")] == [5, UNSAID]
    assert length_of([(b":status", b"200")]) == UNSAID
    assert allowed([(b":status", b"200"), length], ANSWER)
    assert not allowed([(b":status", b"200"), (b"content-length", b"-5")], ANSWER)
