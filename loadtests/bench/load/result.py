"""The result of a load generator: wrk or the stream load."""

from __future__ import annotations

from typing import NamedTuple


class Load(NamedTuple):
    """One run against one router."""

    requests: int
    """Complete answers."""
    seconds: float
    p50_ms: float
    """Of whole answers: from request to answer; of streams: from request to first chunk."""
    p99_ms: float
    failed: int
    """Connections refused, reset or timed out; streams that ended early or lost chunks."""
    bad_status: int
    """Answers that were not 2xx or 3xx."""
    chunks: int = 0
    gap_p50_ms: float = 0.0
    """Between two chunks of a stream."""
    gap_p99_ms: float = 0.0

    @property
    def rate(self) -> float:
        """Good answers a second."""
        return (self.requests - self.bad_status) / self.seconds

    @property
    def chunk_rate(self) -> float:
        """Chunks a second, over all streams."""
        return self.chunks / self.seconds


class LoadFailed(Exception):
    """A load generator failed; the message holds its output."""
