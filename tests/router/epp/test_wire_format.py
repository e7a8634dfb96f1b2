"""Protobuf's wire format, held against protobuf's own messages."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.epp.wire_format import NotAMessage, Reader, entry, last, part
from router.protobuf import field, varint
from tests.fakes.ext_proc_pb2 import ProtocolConfiguration


@given(st.integers(0, (1 << 31) - 1))
def test_numbers_are_those_of_protobuf(number: int) -> None:
    message = ProtocolConfiguration(response_body_mode=number).SerializeToString()
    assert message == (b"\x10" + varint(number) if number else b"")
    assert last(message, 1, 2) == (b"", number)


@given(st.binary(min_size=1, max_size=300))
def test_of_a_field_that_comes_again_the_last_counts(content: bytes) -> None:
    assert part(field(2, b"other") + field(1, b"before") + field(1, content), 1) == content


def test_an_entry_of_a_map_is_the_last_with_its_key() -> None:
    entries = [field(1, field(1, key) + field(2, value)) for key, value in ((b"a", b"1"), (b"b", b"2"), (b"a", b"3"))]
    message = b"".join(entries)
    assert [entry(message, key) for key in (b"a", b"b", b"c")] == [b"3", b"2", None]
    assert entry(field(1, field(1, b"a")), b"a") == b""


@pytest.mark.parametrize(
    "data",
    [
        b"\x0a",
        b"\x0a\x05abcd",
        b"\x08",
        b"\x08\x80",
        b"\x08" + b"\xff" * 10,
        b"\x09abcdefg",
        b"\x0dabc",
        b"\x0b",
        b"\x0f",
    ],
)
def test_what_is_no_message_is_refused(data: bytes) -> None:
    with pytest.raises(NotAMessage):
        Reader(data).next()


@given(st.binary(max_size=100))
def test_bytes_of_any_kind_are_read_to_their_end_or_refused(data: bytes) -> None:
    reader, fields = Reader(data), 0
    try:
        while reader.next():
            fields += 1
    except NotAMessage:
        pass
    assert fields <= len(data)
