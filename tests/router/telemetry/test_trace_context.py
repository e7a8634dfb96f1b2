"""The header `traceparent`, against the cases of the W3C recommendation and of OpenTelemetry's own reader."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.sdk.trace.sampling import Decision, TraceIdRatioBased
from opentelemetry.trace import get_current_span
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from router.telemetry.trace_context import TraceParent, gap, header, parse, sampling_bound, without_context
from tests.fakes.each_case import each_case

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


def value(version: str = "00", trace: str = TRACE, span: str = SPAN, flags: str = "01", more: str = "") -> bytes:
    return f"{version}-{trace}-{span}-{flags}{more}".encode()


@pytest.mark.parametrize(("flags", "kept"), [("00", 0), ("01", 1), ("03", 3), ("02", 2), ("ff", 3)])
def test_ids_and_the_known_flags_are_read(flags: str, kept: int) -> None:
    assert parse(value(flags=flags)) == TraceParent(int(TRACE, 16), int(SPAN, 16), kept)


def test_a_later_version_is_read_as_far_as_it_is_known() -> None:
    assert parse(value("cc")) is not None
    assert parse(value("cc", more="-what-comes-next")) is not None


@each_case(
    "malformed",
    [
        b"",
        value("ff"),
        value("0"),
        value(more="-more"),
        value(more=" "),
        value("01", more="extra"),
        value(trace="0" * 32),
        value(span="0" * 16),
        value(trace=TRACE.upper()),
        value(trace=TRACE[1:]),
        value(span=SPAN + "0"),
        value(flags="1"),
        value(flags="zz"),
        value() + b", " + value(),
        b"\xff" * 55,
    ],
)
def test_a_malformed_header_is_ignored(malformed: bytes) -> None:
    assert parse(malformed) is None


@given(st.binary(max_size=80) | st.from_regex(rb"[0-9a-f]{2}-[0-9a-f]{31,33}-[0-9a-f]{16}-0[0-9a-f](-a)?"))
def test_what_opentelemetry_refuses_is_refused_and_its_ids_are_ours(given_value: bytes) -> None:
    carrier = {"traceparent": given_value.decode("latin-1")}
    theirs = get_current_span(TraceContextTextMapPropagator().extract(carrier)).get_span_context()
    ours = parse(given_value)
    if ours is not None:
        assert (ours.trace_id, ours.span_id) == (theirs.trace_id, theirs.span_id)


def test_what_is_written_is_read_back() -> None:
    line = header(int(TRACE, 16), int(SPAN, 16), 1)
    assert line == b"traceparent: " + value() + b"\r\n"
    assert parse(line.partition(b": ")[2].strip()) == TraceParent(int(TRACE, 16), int(SPAN, 16), 1)


@pytest.mark.parametrize("state", [True, False])
def test_the_headers_of_a_trace_are_taken_out_of_a_head_in_one_piece_or_in_parts(*, state: bool) -> None:
    rest = [b"accept: */*\r\n", b"baggage: a=b\r\n"]
    parts = [rest[0], b"Traceparent", b": ", value(), b"\r\n", rest[1], b"tracestate", b": ", b"v=1", b"\r\n"]
    expected = b"".join(rest) + (b"tracestate: v=1\r\n" if state else b"")
    assert b"".join(without_context(parts, state=state)) == expected
    assert b"".join(without_context([b"".join(parts)], state=state)) == expected


@given(st.integers(1, 2**128 - 1), st.sampled_from([0.0, 0.01, 0.5, 1.0]))
def test_a_ratio_takes_the_traces_that_opentelemetry_takes(trace_id: int, ratio: float) -> None:
    theirs = TraceIdRatioBased(ratio).should_sample(None, trace_id, "x").decision
    assert (trace_id % 2**64 < sampling_bound(ratio)) == (theirs is Decision.RECORD_AND_SAMPLE)


def test_as_many_traces_go_by_as_if_each_were_decided_alone() -> None:
    drawn = [gap(sampling_bound(0.01), at << 48) for at in range(1 << 16)]
    assert sum(each == 0 for each in drawn) == pytest.approx(0.01 * len(drawn), abs=1)
    assert sum(each < 100 for each in drawn) == pytest.approx((1 - 0.99**100) * len(drawn), abs=1)
    assert sum(drawn) / len(drawn) == pytest.approx(99, rel=0.01)


@each_case("ratio, expected", [(0.0, 1 << 60), (1e-18, 1 << 60), (1.0, 0)])
def test_the_ends_of_the_ratio_record_none_or_all(ratio: float, expected: int) -> None:
    assert gap(sampling_bound(ratio), (1 << 64) - 1) == expected
    assert gap(sampling_bound(1.0), 0) == 0
