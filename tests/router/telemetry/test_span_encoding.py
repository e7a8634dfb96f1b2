"""Spans as bytes: the same message as the SDK makes of them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import ReadableSpan

from router.telemetry.request_trace import RequestTrace
from router.telemetry.span_encoding import SpanEncoder
from tests.router.telemetry.test_spans import OUTCOME, attempt, maker, trace


def same(spans: list[ReadableSpan]) -> None:
    assert ExportTraceServiceRequest.FromString(SpanEncoder().encode(spans)) == encode_spans(spans)


@pytest.mark.parametrize("state", [b"", b"vendor=1,other=2"])
@pytest.mark.parametrize("parent", [0, 9])
def test_the_tree_of_a_request_is_encoded_as_the_sdk_does(parent: int, state: bytes) -> None:
    tried: RequestTrace = trace(attempt(2, 0, "connect_failed"), attempt(3, address="unix:/run/a.sock"), parent=parent)
    tried.state = state
    outcome = OUTCOME._replace(waited=True, tokens={"prompt_tokens": 0, "completion_tokens": 1 << 40}, status=503)
    same(list(maker().spans(tried, outcome)))


@given(model=st.text(max_size=300), pool=st.text(max_size=200), tokens=st.integers(-(1 << 63), (1 << 63) - 1))
def test_any_text_and_number_is_encoded_as_the_sdk_does(model: str, pool: str, tokens: int) -> None:
    outcome = OUTCOME._replace(model=model, pool=pool, tokens={"prompt_tokens": tokens})
    same(list(maker().spans(trace(attempt(2)), outcome)))


def test_requests_one_after_the_other_have_the_same_resource() -> None:
    encoder, one = SpanEncoder(), maker()
    first, second = (list(one.spans(trace(attempt(2)), OUTCOME)) for _ in range(2))
    encoder.encode(first)
    assert ExportTraceServiceRequest.FromString(encoder.encode(second)) == encode_spans(second)
