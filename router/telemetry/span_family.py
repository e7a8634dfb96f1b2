"""What became of the spans of traces, as a metric."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from router.telemetry.family import Family, family

_HELP = "Spans of traces: exported, failed at the collector, or dropped here because too many waited."


def families(counts: Mapping[str, int]) -> Iterator[Family]:
    """By result; nothing where nothing is traced."""
    if counts:
        yield family("counter", "turnout_spans", _HELP, "result", counts.items())
