"""What became of the spans of traces, as a metric."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from prometheus_client.samples import Sample

from router.telemetry.collector import Family

_HELP = "Spans of traces: exported, failed at the collector, or dropped here because too many waited."


def families(counts: Mapping[str, int]) -> Iterator[Family]:
    """By result; nothing where nothing is traced."""
    if counts:
        samples = [Sample("turnout_spans_total", {"result": result}, count) for result, count in counts.items()]
        yield Family("turnout_spans", "counter", _HELP, lambda: samples)
