"""Counts chunks and the times between them in buckets, which costs less than a list of samples. Pure."""

from __future__ import annotations

from collections.abc import Sequence

BUCKET_S = 0.0001
BUCKETS = 100_000
"""Up to 10 s; longer times count as 10 s."""


class Tally:
    """The chunks of one window."""

    def __init__(self) -> None:
        self.chunks = 0
        self.answers = 0
        self.failed = 0
        self.bad_status = 0
        self.longest_s = 0.0
        """Between two chunks of a stream."""
        self._gaps = [0] * BUCKETS
        self._firsts = [0] * BUCKETS

    def first(self, waited_s: float, chunks: int) -> None:
        """A stream's first chunk arrived, with `chunks - 1` more in the same read."""
        self._firsts[min(int(waited_s / BUCKET_S), BUCKETS - 1)] += 1
        self._gaps[0] += chunks - 1
        self.chunks += chunks

    def gap(self, gap_s: float, chunks: int) -> None:
        """`chunks` arrived in one read, `gap_s` after the last: the first has that gap, the others none."""
        if gap_s > self.longest_s:
            self.longest_s = gap_s
        self._gaps[min(int(gap_s / BUCKET_S), BUCKETS - 1)] += 1
        self._gaps[0] += chunks - 1
        self.chunks += chunks

    def ended(self, whole: bool) -> None:
        """A stream ended, with or without all its chunks."""
        self.answers += 1
        self.failed += not whole

    def as_json(self, seconds: float) -> dict[str, float]:
        """The fields of `result.Load`."""
        return {
            "requests": self.answers,
            "seconds": seconds,
            "p50_ms": percentile_s(self._firsts, 0.5) * 1e3,
            "p99_ms": percentile_s(self._firsts, 0.99) * 1e3,
            "failed": self.failed,
            "bad_status": self.bad_status,
            "chunks": self.chunks,
            "gap_p50_ms": percentile_s(self._gaps, 0.5) * 1e3,
            "gap_p99_ms": percentile_s(self._gaps, 0.99) * 1e3,
        }


def percentile_s(buckets: Sequence[int], share: float) -> float:
    """The middle of the bucket in which the `share`-th value lies; 0 of no values."""
    wanted, seen = sum(buckets) * share, 0
    for at, count in enumerate(buckets):
        seen += count
        if count and seen >= wanted:
            return (at + 0.5) * BUCKET_S
    return 0.0
