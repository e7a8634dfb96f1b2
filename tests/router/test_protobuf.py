"""Numbers and fields, held against protobuf's own messages."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.common.v1.common_pb2 import AnyValue

from router.protobuf import field, nested, varint
from tests.fakes.ext_proc_pb2 import HttpBody


@given(st.integers(-(1 << 63), (1 << 63) - 1) | st.integers(-300, 70_000))
def test_numbers_are_those_of_protobuf(number: int) -> None:
    assert AnyValue(int_value=number).SerializeToString() == b"\x18" + varint(number)


@given(st.binary(min_size=1, max_size=300) | st.integers(1, 40_000).map(lambda size: b"x" * size))
def test_a_field_is_that_of_protobuf(content: bytes) -> None:
    assert field(1, content) == HttpBody(body=content).SerializeToString()
    assert nested((1, 2, 3), content) == field(3, field(2, field(1, content)))
