"""W3C Trace Context: the header `traceparent` <-> numbers, and the decision to sample. Pure; knows no span.

Version 00 is written. Later versions are read as far as they are like it, as the recommendation asks. A header that
cannot be read begins a new trace, and its `tracestate` goes with it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Final, NamedTuple

SAMPLED: Final = 1
"""The flag of a trace that is recorded."""
_KNOWN_FLAGS: Final = 3
"""`sampled`, and `random` of level 2, which is passed on."""
_HALF: Final = 1 << 64
_NEVER: Final = 1 << 60

_TRACEPARENT: Final = re.compile(rb"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?", re.DOTALL)
_INVALID_VERSION: Final = b"ff"
_HEADERS: Final = re.compile(rb"(?im)^(?:traceparent|tracestate):[^\n]*\n")
_PARENT_HEADER: Final = re.compile(rb"(?im)^traceparent:[^\n]*\n")


class TraceParent(NamedTuple):
    """What a `traceparent` says."""

    trace_id: int
    """128 bits."""
    span_id: int
    """64 bits: the sender's span."""
    flags: int


def parse(value: bytes) -> TraceParent | None:
    """The header's value as numbers; None where it is malformed, or was sent twice."""
    found = _TRACEPARENT.fullmatch(value)
    if found is None:
        return None
    version, trace_id, span_id, flags, more = found.groups()
    if version == _INVALID_VERSION or (more is not None and version == b"00"):
        return None
    parent = TraceParent(int(trace_id, 16), int(span_id, 16), int(flags, 16) & _KNOWN_FLAGS)
    return parent if parent.trace_id and parent.span_id else None


def header(trace_id: int, span_id: int, flags: int) -> bytes:
    """The line of a head that names this span as the parent."""
    return b"traceparent: 00-%032x-%016x-%02x\r\n" % (trace_id, span_id, flags)


def without_context(kept: Sequence[bytes], *, state: bool) -> list[bytes]:
    """The lines of a head without `traceparent`; with `state`, `tracestate` stays."""
    return [(_PARENT_HEADER if state else _HEADERS).sub(b"", b"".join(kept))]


def sampling_bound(ratio: float) -> int:
    """The traces that begin here are recorded whose low 64 bits are below this number, as by OpenTelemetry's
    `TraceIdRatioBased`: every component with the same ratio takes the same ones."""
    return round(ratio * _HALF)


def gap(bound: int, random: int) -> int:
    """How many new traces go by before one is recorded, drawn by these 64 random bits: as many as if each had bits of
    its own, below `bound` or not, at a hundredth of the cost."""
    if bound <= 0 or bound >= _HALF:
        return 0 if bound else _NEVER
    return int(min(math.log1p(-(random >> 11) / (1 << 53)) / math.log1p(-bound / _HALF), _NEVER))
