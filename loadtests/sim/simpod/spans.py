"""The span that an engine makes of a request, as vLLM does with `--otlp-traces-endpoint`: it continues the trace of the
caller's `traceparent`. Imported only with that option, because it needs the packages of `turnout[otel]`.
"""

from __future__ import annotations

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import Span, SpanKind
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from loadtests.sim.simpod.faults import Outlet
from loadtests.sim.simpod.wire import Request

SERVICE = "vllm-sim"
SPAN = "llm_request"
EXPORT_MS = 200.0


class EngineSpans:
    """Makes the spans of one pod."""

    def __init__(self, endpoint: str, pod: str) -> None:
        """`endpoint` is the whole URL, as vLLM takes it."""
        self._provider = TracerProvider(resource=Resource.create({"service.name": SERVICE, "service.instance.id": pod}))
        exporter = OTLPSpanExporter(endpoint=endpoint, timeout=5)
        self._provider.add_span_processor(BatchSpanProcessor(exporter, schedule_delay_millis=EXPORT_MS))
        self._tracer = self._provider.get_tracer("turnout.sim")
        self._propagator = TraceContextTextMapPropagator()

    def outlet(self, request: Request, outlet: Outlet) -> Outlet:
        """Begin the span of a request; it ends when its answer does."""
        carrier = {name.decode("latin-1"): value.decode("latin-1") for name, value in request.headers.items()}
        span = self._tracer.start_span(SPAN, self._propagator.extract(carrier), SpanKind.SERVER)
        span.set_attribute("url.path", request.path)
        return SpanOutlet(span, outlet)

    def stop(self) -> None:
        """Send what is left."""
        self._provider.shutdown()


class SpanOutlet:
    """An outlet in front of another one, which ends the span with the answer."""

    def __init__(self, span: Span, outlet: Outlet) -> None:
        self._span = span
        self._next = outlet

    @property
    def paused(self) -> bool:
        """Whether the client has stopped reading."""
        return self._next.paused

    def whole(self, status: int, content_type: bytes, body: bytes, extra: bytes = b"") -> None:
        """A complete answer."""
        self._span.set_attribute("http.response.status_code", status)
        self._span.end()
        self._next.whole(status, content_type, body, extra)

    def open(self, content_type: bytes) -> None:
        """The head of a streamed answer."""
        self._span.add_event("first token")
        self._next.open(content_type)

    def send(self, data: bytes) -> None:
        """One chunk of it."""
        self._next.send(data)

    def end(self) -> None:
        """Its end."""
        self._span.set_attribute("http.response.status_code", 200)
        self._span.end()
        self._next.end()
