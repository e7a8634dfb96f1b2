"""Counting chunks."""

from __future__ import annotations

import pytest

from loadtests.bench.load.result import Load
from loadtests.bench.load.tally import BUCKETS, Tally, percentile_s


def test_chunks_received_together_count_one_wait() -> None:
    tally = Tally()
    tally.first(0.005, 1)
    tally.gap(0.02, 1)
    tally.gap(0.06, 3)
    found = Load(**tally.as_json(2.0))  # type: ignore[arg-type]
    assert found.chunks == 5
    assert found.chunk_rate == 2.5
    assert found.p50_ms == pytest.approx(5.05)
    assert found.gap_p50_ms == pytest.approx(0.05)
    assert found.gap_p99_ms == pytest.approx(60.05)


def test_a_stream_that_lost_chunks_failed() -> None:
    tally = Tally()
    tally.ended(whole=True)
    tally.ended(whole=False)
    found = tally.as_json(1.0)
    assert (found["requests"], found["failed"]) == (2, 1)


def test_percentiles_of_no_waits_are_zero_and_the_longest_is_kept() -> None:
    assert percentile_s([0] * 10, 0.99) == 0.0
    tally = Tally()
    tally.gap(1e6, 1)
    assert tally.as_json(1.0)["gap_p99_ms"] == pytest.approx((BUCKETS - 0.5) * 0.1)
