"""Parts of spans as bytes: what protobuf's own classes read in them."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.trace.v1.trace_pb2 import ScopeSpans, Span, Status

from router.telemetry import span_encoding as encoding
from router.telemetry.span_encoding import CountAttribute, EventName, SecondsAttribute, flag_attribute, text_attribute

ID = st.integers(1, (1 << 64) - 1)


@given(st.text(max_size=40), st.text(max_size=300))
def test_a_text_of_any_length_is_an_attribute(name: str, value: str) -> None:
    (read,) = Span.FromString(text_attribute(name, value)).attributes
    assert (read.key, read.value.WhichOneof("value"), read.value.string_value) == (name, "string_value", value)


@given(st.integers(-(1 << 63), (1 << 63) - 1))
def test_a_count_of_64_bits_is_an_attribute(value: int) -> None:
    (read,) = Span.FromString(CountAttribute("n" * 100).of(value)).attributes
    assert (read.key, read.value.WhichOneof("value"), read.value.int_value) == ("n" * 100, "int_value", value)


@given(st.floats(allow_nan=False))
def test_seconds_are_an_attribute(value: float) -> None:
    (read,) = Span.FromString(SecondsAttribute("n" * 100).of(value)).attributes
    assert (read.key, read.value.WhichOneof("value"), read.value.double_value) == ("n" * 100, "double_value", value)


def test_a_flag_is_an_attribute() -> None:
    read = Span.FromString(flag_attribute("a", value=True) + flag_attribute("b", value=False)).attributes
    assert [(each.key, each.value.WhichOneof("value"), each.value.bool_value) for each in read] == [
        ("a", "bool_value", True),
        ("b", "bool_value", False),
    ]


@given(ID, ID, st.integers(1, (1 << 128) - 1), st.integers(0, (1 << 63) - 1))
def test_ids_and_times_are_those_of_the_span(own: int, parent: int, trace: int, at: int) -> None:
    parts = [encoding.begin(trace), encoding.id_bytes(own), encoding.below(parent), encoding.times(at, at + 1)]
    (read,) = ScopeSpans.FromString(encoding.span([*parts, encoding.LOCAL_PARENT])).spans
    ids = [int.from_bytes(each, "big") for each in (read.span_id, read.parent_span_id, read.trace_id)]
    assert ids == [own, parent, trace]
    assert (read.start_time_unix_nano, read.end_time_unix_nano, read.flags) == (at, at + 1, 0x100)


def test_a_name_comes_with_its_kind_and_status() -> None:
    made, failed = (encoding.named("n" * 200, encoding.CLIENT, failed=failed) for failed in (False, True))
    read = Span.FromString(made)
    assert (read.name, read.kind, read.status.code) == ("n" * 200, Span.SPAN_KIND_CLIENT, Status.STATUS_CODE_UNSET)
    assert Span.FromString(failed).status.code == Status.STATUS_CODE_ERROR


def test_an_event_has_a_name_and_a_time() -> None:
    (read,) = Span.FromString(EventName("n" * 100).at(7)).events
    assert (read.name, read.time_unix_nano) == ("n" * 100, 7)
