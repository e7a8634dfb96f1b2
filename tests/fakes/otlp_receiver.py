"""A strict receiver of traces: OTLP over HTTP with protobuf, read by OpenTelemetry's own messages. What is malformed is
refused with 400 and kept as a complaint.
"""

from __future__ import annotations

import gzip
import threading
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple

from google.protobuf.message import DecodeError
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.trace.v1 import trace_pb2

CONTENT_TYPE = "application/x-protobuf"


class ReceivedSpan(NamedTuple):
    """A span as it came."""

    name: str
    kind: str
    """`SERVER`, `CLIENT` or `INTERNAL`."""
    trace_id: str
    span_id: str
    parent_id: str
    """Empty for a root."""
    state: str
    start_ns: int
    end_ns: int
    attributes: dict[str, Any]
    events: list[tuple[str, int]]
    failed: bool
    resource: dict[str, Any]


class OtlpReceiver:
    """Takes spans on a port of its own. `status` is what it answers; `open.clear()` makes it silent."""

    def __init__(self) -> None:
        self.spans: list[ReceivedSpan] = []
        self.bodies: list[bytes] = []
        """Every request as it came, unpacked."""
        self.complaints: list[str] = []
        self.status = 200
        self.asked = 0
        self.open = threading.Event()
        self.open.set()
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                if self.headers.get("content-encoding") == "gzip":
                    body = gzip.decompress(body)
                if self.headers.get("content-encoding") == "deflate":
                    body = zlib.decompress(body)
                receiver.asked += 1
                receiver.open.wait()
                status = receiver.status
                if status == 200:
                    status = receiver.take(self.path, self.headers.get("content-type", ""), body)
                self.send_response(status)
                self.send_header("content-type", CONTENT_TYPE)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:
                """No line for each request."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()

    def take(self, path: str, content_type: str, body: bytes) -> int:
        """Read a request; returns the status of its answer."""
        try:
            found = list(_read(path, content_type, body))
        except (ValueError, DecodeError) as error:
            self.complaints.append(str(error))
            return 400
        self.bodies.append(body)
        self.spans += found
        return 200

    def tree(self, trace_id: str) -> list[tuple[int, ReceivedSpan]]:
        """The spans of a trace with their depth, parents first, by start. Raises AssertionError for a span whose
        parent did not come, but for the root's own."""
        spans = sorted((span for span in self.spans if span.trace_id == trace_id), key=lambda span: span.start_ns)
        known = {span.span_id for span in spans}
        assert len(known) == len(spans), "a span came twice"
        (root,) = [span for span in spans if span.parent_id not in known]
        return list(_below(root, spans, 0))

    def stop(self) -> None:
        """Close the port."""
        self.open.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def _below(span: ReceivedSpan, spans: list[ReceivedSpan], depth: int) -> Iterator[tuple[int, ReceivedSpan]]:
    yield depth, span
    for child in spans:
        if child.parent_id == span.span_id:
            yield from _below(child, spans, depth + 1)


def _read(path: str, content_type: str, body: bytes) -> Iterator[ReceivedSpan]:
    if path != "/v1/traces" or content_type != CONTENT_TYPE:
        raise ValueError(f"{path} with {content_type}")
    request = ExportTraceServiceRequest.FromString(body)
    for resource in request.resource_spans:
        about = _attributes(resource.resource.attributes)
        if not about.get("service.name"):
            raise ValueError("no service.name")
        for scope in resource.scope_spans:
            for span in scope.spans:
                yield _span(span, about)


def _span(span: trace_pb2.Span, about: dict[str, Any]) -> ReceivedSpan:
    if len(span.trace_id) != 16 or len(span.span_id) != 8 or not any(span.trace_id) or not any(span.span_id):
        raise ValueError(f"{span.name}: ids of a wrong length, or zero")
    if span.parent_span_id and len(span.parent_span_id) != 8:
        raise ValueError(f"{span.name}: a parent id of a wrong length")
    if not 0 < span.start_time_unix_nano <= span.end_time_unix_nano:
        raise ValueError(f"{span.name}: ends before it starts")
    if not span.name or not span.kind:
        raise ValueError("a span without a name or a kind")
    return ReceivedSpan(
        span.name,
        trace_pb2.Span.SpanKind.Name(span.kind).removeprefix("SPAN_KIND_"),
        span.trace_id.hex(),
        span.span_id.hex(),
        span.parent_span_id.hex(),
        span.trace_state,
        span.start_time_unix_nano,
        span.end_time_unix_nano,
        _attributes(span.attributes),
        [(event.name, event.time_unix_nano) for event in span.events],
        span.status.code == trace_pb2.Status.STATUS_CODE_ERROR,
        about,
    )


def _attributes(given: Any) -> dict[str, Any]:
    pairs: list[KeyValue] = list(given)
    found = {each.key: _value(each.value) for each in pairs}
    if len(found) != len(pairs) or "" in found:
        raise ValueError("an attribute twice, or without a name")
    return found


def _value(value: AnyValue) -> Any:
    kind = value.WhichOneof("value")
    if kind is None:
        raise ValueError("an attribute without a value")
    return [_value(each) for each in value.array_value.values] if kind == "array_value" else getattr(value, kind)


@contextmanager
def otlp_receiver() -> Iterator[OtlpReceiver]:
    """A receiver for the block; afterwards nothing malformed may have come."""
    receiver = OtlpReceiver()
    try:
        yield receiver
    finally:
        receiver.stop()
    assert receiver.complaints == []
