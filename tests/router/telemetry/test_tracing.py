"""The way of spans to a collector: a strict one, one that fails, one that is not there, one that is silent."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence

import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from router.telemetry import tracing
from router.telemetry.request_trace import AttemptTrace, RequestOutcome, RequestTrace
from router.telemetry.tracing import CountingExporter, EndedRequest, TraceExport
from tests.fakes.otlp_receiver import otlp_receiver
from tests.fakes.waiting import DEADLINE_S, wait_for
from tests.router.telemetry.test_spans import OUTCOME, Noted, attempt, maker, trace


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A close waits for as long as a busy machine lets the SDK's thread stand still."""
    monkeypatch.setattr(tracing, "FLUSH_S", DEADLINE_S)


NOTED = Noted(OUTCOME)


def open_export(url: str) -> TraceExport:
    about = {"service.name": "turnout", "service.instance.id": "r1", "service.version": "1"}
    return tracing.open_export(url, about, maker())


class HeldExporter(SpanExporter):
    """Holds every batch until `go_on` is set."""

    def __init__(self) -> None:
        self.go_on = threading.Event()

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self.go_on.wait()
        return SpanExportResult.SUCCESS

    def shutdown(self) -> None:
        self.go_on.set()


def sent(url: str) -> tuple[int, ...]:
    """Send the spans of one request, then close; returns the counts."""
    export = open_export(url)
    export.take(trace(attempt(2), parent=9), NOTED)
    asyncio.run(export.aclose())
    return tuple(export.counts().values())


def test_a_strict_receiver_gets_the_tree_with_its_resource() -> None:
    with otlp_receiver() as receiver:
        assert sent(receiver.url) == (4, 0, 0)
        tree = receiver.tree(f"{0xABC:032x}")
        assert [(depth, span.name) for depth, span in tree] == [
            (0, "POST /v1/chat/completions"),
            (1, "decision"),
            (1, "chat true-name"),
            (1, "relay"),
        ]
        root = tree[0][1]
        assert (root.kind, root.parent_id) == ("SERVER", f"{9:016x}")
        about = root.resource
        assert (about["service.name"], about["service.instance.id"], about["service.version"]) == ("turnout", "r1", "1")
        assert about["telemetry.sdk.name"] == "opentelemetry"


def test_the_whole_url_may_be_given() -> None:
    with otlp_receiver() as receiver:
        assert sent(receiver.url + "/v1/traces")[0] == 4
        assert sent(receiver.url + "/")[0] == 4


@pytest.mark.parametrize("compression", ["gzip", "deflate"])
def test_the_settings_of_the_sdk_count(compression: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_COMPRESSION", compression)
    with otlp_receiver() as receiver:
        assert sent(receiver.url) == (4, 0, 0)
        assert len(receiver.tree(f"{0xABC:032x}")) == 4


def test_what_a_collector_refuses_is_lost_and_counted() -> None:
    with otlp_receiver() as receiver:
        receiver.status = 400
        assert sent(receiver.url) == (0, 4, 0)


def test_a_queue_that_is_full_takes_no_part_of_a_tree() -> None:
    held = HeldExporter()
    export = TraceExport(held, maker(), most_queued=9)
    for _ in range(4):
        export.take(trace(attempt(2)), NOTED)
    assert export.counts() == {"exported": 0, "failed": 0, "dropped": 8}
    held.go_on.set()
    asyncio.run(export.aclose())
    assert export.counts() == {"exported": 8, "failed": 0, "dropped": 8}


class BrokenExporter(InMemorySpanExporter):
    """Raises for the first batch."""

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self.export = super().export  # type: ignore[method-assign]
        raise ValueError


def test_a_batch_goes_out_once_it_is_full_and_a_defect_costs_no_other_batch(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(tracing, "DELAY_S", 10 * DEADLINE_S)
    monkeypatch.setattr(tracing, "BATCH", 1)
    export = TraceExport(BrokenExporter(), maker())
    for number in (1, 2):
        export.take(trace(attempt(2)), NOTED)
        wait_for("the batch went out", lambda number=number: sum(export.counts().values()) == 4 * number)  # type: ignore[misc]
    assert export.counts() == {"exported": 4, "failed": 4, "dropped": 0}
    asyncio.run(export.aclose())
    assert "a batch of traces was lost" in caplog.text


class BusyExporter(SpanExporter):
    """A request ends while a batch is on its way."""

    def __init__(self) -> None:
        self.batches = 0
        self.meanwhile = 0
        self.ends: Callable[[], None] = self.shutdown

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self.batches += 1
        if self.meanwhile:
            self.meanwhile -= 1
            self.ends()
        return SpanExportResult.SUCCESS


def test_requests_that_end_while_a_batch_is_sent_are_the_next_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracing, "DELAY_S", 10 * DEADLINE_S)
    busy = BusyExporter()
    busy.meanwhile = 5
    export = TraceExport(busy, maker())
    busy.ends = lambda: export.take(trace(attempt(2)), NOTED)
    for _ in range(tracing.BATCH):
        export.take(trace(attempt(2)), NOTED)
    wait_for("the batch was sent", lambda: export.counts()["exported"] >= 4 * tracing.BATCH)
    asyncio.run(export.aclose())
    assert busy.batches == 2


def test_a_request_that_ends_after_the_close_is_counted() -> None:
    export = TraceExport(InMemorySpanExporter(), maker())
    asyncio.run(export.aclose())
    export.take(trace(attempt(2)), NOTED)
    assert export.counts() == {"exported": 0, "failed": 0, "dropped": 4}


def test_a_silent_collector_holds_a_drain_for_a_bounded_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracing, "FLUSH_S", 0.5)
    with otlp_receiver() as receiver:
        receiver.open.clear()
        export = open_export(receiver.url)
        export.take(trace(attempt(2)), NOTED)
        asyncio.run(export.aclose())  # returns although the answer never comes
        wait_for("the batch was sent", lambda: receiver.asked > 0)
        receiver.open.set()


def test_a_request_that_ended_at_once_is_a_span_without_children() -> None:
    outcome = RequestOutcome("GET", "/x", False, "", "", "", 404, "unknown_path", False, 1.0, 1.0, False, 0.0, 0.0, {})
    with otlp_receiver() as receiver:
        export = open_export(receiver.url)
        ended = RequestTrace(7, 0, 1)
        ended.span_id = 8
        ended.attempts = list[AttemptTrace]()
        export.take(ended, Noted(outcome))
        asyncio.run(export.aclose())
        assert [span.name for _, span in receiver.tree(f"{7:032x}")] == ["GET"]


def test_a_request_whose_spans_cannot_be_made_costs_no_other_request(caplog: pytest.LogCaptureFixture) -> None:
    broken = attempt(2)
    broken.address = "unix"  # is no address, and has no port
    ended = [EndedRequest(trace(each), NOTED, 4) for each in (broken, attempt(2))]
    collector = InMemorySpanExporter()
    exporter = CountingExporter(collector, maker())
    exporter.export(ended)
    assert (exporter.exported, exporter.failed) == (4, 4)
    assert len(collector.get_finished_spans()) == 4
    assert "the trace of a request was lost" in caplog.text
