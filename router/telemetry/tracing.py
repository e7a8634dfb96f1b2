"""Sends the spans of sampled requests to a collector, by OpenTelemetry's SDK: OTLP over HTTP with protobuf. Imported
only where `telemetry.otlp_endpoint` is set; `config/telemetry_checks.py` says what is missing where the library is.

Ended requests go into the SDK's bounded queue, and its own thread makes their spans and sends them. A collector that is
slow or gone costs spans, which are counted, and nothing else.
"""

from __future__ import annotations

import asyncio
import gzip
import logging
import threading
import zlib
from collections.abc import Mapping, Sequence
from typing import Any, Final, cast

import requests
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanContext, TraceFlags, TraceState

from router.protobuf import field
from router.telemetry.request_trace import RequestOutcome, RequestTrace
from router.telemetry.spans import SpanMaker, count_of

TRACES_PATH: Final = "/v1/traces"
MAX_QUEUED: Final = 8192
"""Spans that wait for the collector; those of further requests are lost."""
BATCH: Final = 512
"""Requests whose spans are sent at a time: once so many wait, or after five seconds."""
EXPORT_TIMEOUT_S: Final = 5.0
"""For one batch, its retries included."""
FLUSH_S: Final = 3.0
"""What a drain waits for the collector."""

RECORDED: Final = SpanContext(1, 1, False, TraceFlags(TraceFlags.SAMPLED))
"""Stands for the context of any sampled request."""

_log = logging.getLogger("turnout.traces")


class EncodedSession(requests.Session):
    """An HTTP session that sends `body` in place of what the SDK encoded, and compresses it as the SDK did."""

    body = b""

    def request(self, method: str, url: str | bytes, *args: Any, **options: Any) -> requests.Response:
        """As `requests.Session.request`."""
        given = options.get("data") or b""
        gzipped, compressed = given[:2] == b"\x1f\x8b", bool(given)
        options["data"] = (gzip if gzipped else zlib).compress(self.body) if compressed else self.body
        return super().request(method, url, *args, **options)


class EncodedExporter(SpanExporter):
    """The SDK's way to the collector, with its headers, certificates, compression and retries, for spans that a
    `SpanMaker` made: the SDK is given none, and its session sends them."""

    def __init__(self, endpoint: str, about: Mapping[str, str]) -> None:
        """`about`: the resource's attributes; those of `OTEL_RESOURCE_ATTRIBUTES` are added."""
        scope = InstrumentationScope("turnout", about.get("service.version"))
        anything = ReadableSpan("", RECORDED, resource=Resource.create(dict(about)), instrumentation_scope=scope)
        (message,) = encode_spans([anything]).resource_spans
        self._resource = field(1, message.resource.SerializeToString())
        self._scope = field(1, message.scope_spans[0].scope.SerializeToString())
        self._session = EncodedSession()
        self._exporter: SpanExporter = OTLPSpanExporter(
            endpoint=endpoint, timeout=EXPORT_TIMEOUT_S, session=self._session
        )

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Send a batch of spans as bytes."""
        scoped = b"".join([self._scope, *cast(Sequence[bytes], spans)])
        self._session.body = field(1, self._resource + field(2, scoped))
        return self._exporter.export(())

    def shutdown(self) -> None:
        """End a batch that is being sent again and again."""
        self._exporter.shutdown()


class EndedRequest:
    """What the SDK's queue holds in place of spans: these are made by its thread, many at a time, at half the cost."""

    __slots__ = ("count", "outcome", "trace")

    context = RECORDED
    """The SDK looks whether it is sampled."""

    def __init__(self, trace: RequestTrace, outcome: RequestOutcome, count: int) -> None:
        """`count` is that of its spans."""
        self.trace = trace
        self.outcome = outcome
        self.count = count


class CountingExporter(SpanExporter):
    """Makes the spans of ended requests, has another exporter send them, and counts. Called by the SDK's thread."""

    def __init__(self, exporter: SpanExporter, maker: SpanMaker) -> None:
        self._exporter = exporter
        self._maker = maker
        self.exported = 0
        self.failed = 0

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Export a batch of `EndedRequest`."""
        made, result = list[bytes](), SpanExportResult.FAILURE
        batch = cast(Sequence[EndedRequest], spans)
        for ended in batch:
            try:
                made += self._maker.spans(ended.trace, ended.outcome)
            except Exception:  # noqa: BLE001  a defect costs the spans of one request
                _log.exception("the trace of a request was lost", extra={"trace_id": ended.trace.name})
        try:
            if made:
                result = self._exporter.export(cast(Sequence[ReadableSpan], made))
        finally:
            done = len(made) if result is SpanExportResult.SUCCESS else 0
            self.exported += done
            self.failed += sum([ended.count for ended in batch]) - done
        return result

    def shutdown(self) -> None:
        """End a batch that is being sent again and again."""
        self._exporter.shutdown()


class TraceExport:
    """The way of spans out of the process."""

    def __init__(self, exporter: SpanExporter, maker: SpanMaker, most_queued: int = MAX_QUEUED) -> None:
        self._exporter = CountingExporter(exporter, maker)
        self._processor = BatchSpanProcessor(
            self._exporter, max_queue_size=most_queued, max_export_batch_size=min(BATCH, most_queued)
        )
        self._most = most_queued
        self._queued = 0
        self._dropped = 0

    def counts(self) -> dict[str, int]:
        """Spans since the start: taken by the collector, refused by it or not sent in time, and not queued here."""
        return {"exported": self._exporter.exported, "failed": self._exporter.failed, "dropped": self._dropped}

    def take(self, trace: RequestTrace, outcome: RequestOutcome) -> None:
        """Queue a request that has ended. Where not all of its spans are within the bound it is not: the SDK would drop
        an older one, and log a line for it."""
        count = count_of(trace, outcome)
        waiting = self._queued - self._exporter.exported - self._exporter.failed
        if waiting + count > self._most:
            self._dropped += count
            return
        self._queued += count
        self._processor.on_end(cast(ReadableSpan, EndedRequest(trace, outcome, count)))

    async def aclose(self) -> None:
        """Send what is queued; give up after `FLUSH_S`. All threads are daemons, so none of them keeps the process."""
        flush = threading.Thread(target=self._processor.shutdown, name="traces-flush", daemon=True)
        flush.start()
        await asyncio.to_thread(flush.join, FLUSH_S)
        if flush.is_alive():
            self._exporter.shutdown()


def open_export(endpoint: str, about: Mapping[str, str], maker: SpanMaker) -> TraceExport:
    """An export to the collector at this base URL. The SDK reads `OTEL_EXPORTER_OTLP_HEADERS` and its like."""
    url = endpoint.rstrip("/")
    full = url if url.endswith(TRACES_PATH) else url + TRACES_PATH
    return TraceExport(EncodedExporter(full, about), maker)


def state_of(header: bytes) -> str:
    """What counts of a `tracestate`: empty for a malformed one."""
    return TraceState.from_header([header.decode("latin-1")]).to_header()
