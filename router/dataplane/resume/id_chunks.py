"""Events with their `id` lines as chunks of HTTP/1.1. Pure; knows neither the log nor connections."""

from __future__ import annotations

from typing import Final

_SIZE_LINES: Final = tuple([b"%x\r\n" % size for size in range(4096)])
"""By the size of a chunk: those of most events, and of every `id` line. Formatting costs 1,000 instructions."""


def chunk(data: bytes) -> bytes:
    """The data as one chunk."""
    size = len(data)
    return b"%b%b\r\n" % (_SIZE_LINES[size] if size < len(_SIZE_LINES) else b"%x\r\n" % size, data)


def chunk_behind(line: bytes, event_chunk: bytes) -> bytes:
    """The line as a chunk, and the event's behind it, which comes as it is."""
    return b"%b%b\r\n%b" % (_SIZE_LINES[len(line)], line, event_chunk)
