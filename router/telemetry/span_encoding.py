"""Finished spans -> the bytes of one OTLP request, protobuf's wire format (opentelemetry/proto/trace/v1/trace.proto).
Knows no collector. Only `tracing.py` imports it, because it needs the library of `turnout[otel]`.

The SDK's own encoder builds a message object for each attribute, span and batch, and copies each into the next one:
770,000 instructions for the four spans of a request, most of what a recorded request costs. These spans have attributes
of few types, and most values come again. A test holds both encoders equal.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Final

from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import SpanContext

_IS_REMOTE_KNOWN: Final = 0x100
_IS_REMOTE: Final = 0x200
"""Bits of `Span.flags`."""

_TIMES: Final = struct.Struct("<BQBQ").pack
_FIXED64: Final = struct.Struct("<BQ").pack
_DOUBLE: Final = struct.Struct("<Bd").pack
_FLAGS: Final = struct.Struct("<BBI").pack
_STATUS: Final = {code: b"\x7a\x00" if not code else b"\x7a\x02\x18%c" % code for code in range(3)}
"""By code: unset, ok, error; without a message."""


class SpanEncoder:
    """Encodes spans of one resource and one scope: those of a `SpanMaker`."""

    def __init__(self) -> None:
        self._resource = self._scope = b""
        """What precedes the spans: encoded by the SDK, once."""

    def encode(self, spans: Sequence[ReadableSpan]) -> bytes:
        """One `ExportTraceServiceRequest`."""
        if not self._resource:
            (about,) = encode_spans(spans[:1]).resource_spans
            self._resource = _field(1, about.resource.SerializeToString())
            self._scope = _field(1, about.scope_spans[0].scope.SerializeToString())
        scoped = self._scope + b"".join([_field(2, _span(span)) for span in spans])
        return _field(1, self._resource + _field(2, scoped))


def _span(span: ReadableSpan) -> bytes:
    context, parent = span.context, span.parent
    assert context is not None, "a `SpanMaker` gives each one"
    state = context.trace_state and ",".join([f"{name}={value}" for name, value in context.trace_state.items()])
    flags = _IS_REMOTE_KNOWN if parent is None or not parent.is_remote else _IS_REMOTE_KNOWN | _IS_REMOTE
    parts = [
        b"\x0a\x10" + context.trace_id.to_bytes(16, "big") + b"\x12\x08" + context.span_id.to_bytes(8, "big"),
        _text(3, state) if state else b"",
        _parent(parent),
        _text(5, span.name),
        b"\x30%c" % (span.kind.value + 1),
        _TIMES(0x39, span.start_time or 0, 0x41, span.end_time or 0),
        _attributes(9, span.attributes or {}),
    ]
    for event in span.events:
        at = _FIXED64(0x09, event.timestamp) + _text(2, event.name)
        parts.append(_field(11, at + _attributes(3, event.attributes or {})))
    parts.append(_STATUS[span.status.status_code.value])
    parts.append(_FLAGS(0x85, 0x01, flags))
    return b"".join(parts)


def _parent(parent: SpanContext | None) -> bytes:
    return b"" if parent is None else b"\x22\x08" + parent.span_id.to_bytes(8, "big")


def _attributes(number: int, attributes: Mapping[str, object]) -> bytes:
    made = []
    for name, value in attributes.items():
        if type(value) is float:  # times, of which none comes again
            made.append(_field(number, _field(1, name.encode()) + b"\x12\x09" + _DOUBLE(0x21, value)))
        else:
            made.append(_attribute(number, name, value))
    return b"".join(made)


@lru_cache(maxsize=2048, typed=True)  # names of pods, pools, policies and models; statuses and counts
def _attribute(number: int, name: str, value: object) -> bytes:
    if isinstance(value, bool):
        content = b"\x10%c" % value
    elif isinstance(value, int):
        content = b"\x18" + _varint(value)
    else:
        content = _field(1, str(value).encode())
    return _field(number, _field(1, name.encode()) + _field(2, content))


@lru_cache(maxsize=256)
def _text(number: int, text: str) -> bytes:
    return _field(number, text.encode())


def _field(number: int, content: bytes) -> bytes:
    """A field of a length and bytes; `number` is at most 15."""
    return b"%c%b%b" % (number << 3 | 2, _varint(len(content)), content)


def _varint(number: int) -> bytes:
    if 0 <= number < 0x80:
        return b"%c" % number
    number &= 0xFFFF_FFFF_FFFF_FFFF
    made = bytearray()
    while number > 0x7F:
        made.append(number & 0x7F | 0x80)
        number >>= 7
    made.append(number)
    return bytes(made)
