"""The simulator predicts the latencies of a trace that the real gateway and pods have in real time."""

from __future__ import annotations

from pathlib import Path

import pytest

from loadtests.bench.scheduling.live import agreement, slice_of
from loadtests.bench.scheduling.play import TRACES, recorded

pytestmark = pytest.mark.realtime


def test_simulated_and_real_ttft_agree_within_15_percent(tmp_path: Path) -> None:
    trace = slice_of(recorded(TRACES, "conversation", None, 0), 0.7, 60.0)
    found = agreement(trace, "prefix_aware", 4, tmp_path)
    assert found.requests == len(trace.arrivals)
    for simulated, real in ((found.simulated.p50, found.real.p50), (found.simulated.p99, found.real.p99)):
        # A busy machine delays answers by about as much as the client's own requests, of which it knows by how much.
        assert abs(simulated - real) <= 0.15 * real + found.late_s, found
