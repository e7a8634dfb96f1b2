"""Sends the spans of sampled requests to a collector, by OpenTelemetry's SDK: OTLP over HTTP with protobuf. Imported
only where `telemetry.otlp_endpoint` is set; `config/telemetry_checks.py` says what is missing where the library is.

Ended requests go into a bounded queue, and a thread makes their spans and sends them. A collector that is slow or gone
costs spans, which are counted, and nothing else.
"""

from __future__ import annotations

import asyncio
import gzip
import logging
import threading
import zlib
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any, Final, cast

import requests
from opentelemetry.context import _SUPPRESS_INSTRUMENTATION_KEY, attach, set_value
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanContext, TraceFlags, TraceState

from router.protobuf import field
from router.telemetry.request_trace import PendingOutcome, RequestTrace
from router.telemetry.spans import SpanMaker, count_of

TRACES_PATH: Final = "/v1/traces"
MAX_QUEUED: Final = 8192
"""Spans that wait for the collector; those of further requests are lost."""
BATCH: Final = 512
"""Requests whose spans are sent at a time: once so many wait, or after `DELAY_S`."""
DELAY_S: Final = 5.0
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
    """What the queue holds in place of spans: these are made by the thread, many at a time, at half the cost."""

    __slots__ = ("count", "outcome", "trace")

    def __init__(self, trace: RequestTrace, outcome: PendingOutcome, count: int) -> None:
        """`count` is that of its spans."""
        self.trace = trace
        self.outcome = outcome
        self.count = count


class CountingExporter:
    """Makes the spans of ended requests, has an exporter send them, and counts. Called by the thread."""

    def __init__(self, exporter: SpanExporter, maker: SpanMaker) -> None:
        self._exporter = exporter
        self._maker = maker
        self.exported = 0
        self.failed = 0

    def export(self, batch: Sequence[EndedRequest]) -> None:
        """Make and send the spans of these."""
        made, result = list[bytes](), SpanExportResult.FAILURE
        for ended in batch:
            try:
                made += self._maker.spans(ended.trace, ended.outcome.read())
            except Exception:  # noqa: BLE001  a defect costs the spans of one request
                _log.exception("the trace of a request was lost", extra={"trace_id": ended.trace.name})
        try:
            if made:
                result = self._exporter.export(cast(Sequence[ReadableSpan], made))
        finally:
            done = len(made) if result is SpanExportResult.SUCCESS else 0
            self.exported += done
            self.failed += sum([ended.count for ended in batch]) - done

    def shutdown(self) -> None:
        """End a batch that is being sent again and again."""
        self._exporter.shutdown()


class TraceExport:
    """The way of spans out of the process."""

    def __init__(self, exporter: SpanExporter, maker: SpanMaker, most_queued: int = MAX_QUEUED) -> None:
        self._exporter = CountingExporter(exporter, maker)
        self._most = most_queued
        self._queue = deque[EndedRequest]()
        self._queued = 0
        self._dropped = 0
        self._wake = threading.Event()
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="traces", daemon=True)
        self._thread.start()

    def counts(self) -> dict[str, int]:
        """Spans since the start: taken by the collector, refused by it or not sent in time, and not queued here."""
        return {"exported": self._exporter.exported, "failed": self._exporter.failed, "dropped": self._dropped}

    def take(self, trace: RequestTrace, outcome: PendingOutcome) -> None:
        """Queue a request that has ended, unless not all of its spans are within the bound."""
        count = count_of(trace, outcome)
        exporter = self._exporter
        if self._closing or self._queued - exporter.exported - exporter.failed + count > self._most:
            self._dropped += count
            return
        self._queued += count
        self._queue.append(EndedRequest(trace, outcome, count))
        if len(self._queue) == BATCH:
            self._wake.set()

    def _run(self) -> None:
        """The thread: send what waits, and what is left after a close."""
        # Where `requests` is instrumented, how traces are sent is not traced.
        attach(set_value(_SUPPRESS_INSTRUMENTATION_KEY, value=True))
        while not self._closing:
            self._wake.wait(DELAY_S)
            self._wake.clear()
            self._send(BATCH)
        self._send(1)

    def _send(self, least: int) -> None:
        """Send a batch, and further ones while `least` requests wait: those that end meanwhile are the next batch."""
        queue, waiting = self._queue, 1
        while len(queue) >= waiting:
            waiting = least
            batch = [queue.popleft() for _ in range(min(BATCH, len(queue)))]
            try:
                self._exporter.export(batch)
            except Exception:  # noqa: BLE001  a defect costs the spans of one batch
                _log.exception("a batch of traces was lost")

    async def aclose(self) -> None:
        """Send what is queued; give up after `FLUSH_S`. The thread is a daemon, so it does not keep the process."""
        self._closing = True
        self._wake.set()
        await asyncio.to_thread(self._thread.join, FLUSH_S)
        self._exporter.shutdown()


def open_export(endpoint: str, about: Mapping[str, str], maker: SpanMaker) -> TraceExport:
    """An export to the collector at this base URL. The SDK reads `OTEL_EXPORTER_OTLP_HEADERS` and its like."""
    url = endpoint.rstrip("/")
    full = url if url.endswith(TRACES_PATH) else url + TRACES_PATH
    return TraceExport(EncodedExporter(full, about), maker)


def state_of(header: bytes) -> str:
    """What counts of a `tracestate`: empty for a malformed one."""
    return TraceState.from_header([header.decode("latin-1")]).to_header()
