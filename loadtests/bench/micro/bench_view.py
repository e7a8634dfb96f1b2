"""The load view by the number of pods: a request's accounting, and a snapshot after something changed."""

from __future__ import annotations

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from loadtests.bench.micro.pools import POD_COUNTS, POOL, in_turn, pod_ids, request, view
from statesync.types import EngineReport


@pytest.mark.parametrize("pods", POD_COUNTS)
def bench_reserve_to_release(benchmark: BenchmarkFixture, pods: int) -> None:
    """Reserve, prefill done, release."""
    benchmark.group = "view"
    benchmark.extra_info.update(series="reserve, prefill_done, release", size=pods)
    held, following = view(pods), in_turn([request(number) for number in range(64)])
    pod = pod_ids(pods)[pods // 2]

    def once() -> None:
        charge = held.reserve(pod, following())
        held.prefill_done(charge)
        held.release(charge)

    before = held.inflight
    benchmark(once)
    assert held.inflight == before


@pytest.mark.parametrize("pods", POD_COUNTS)
def bench_snapshot(benchmark: BenchmarkFixture, pods: int) -> None:
    """An engine's report, and the snapshot that shows it."""
    benchmark.group = "view"
    benchmark.extra_info.update(series="one change, then snapshot", size=pods)
    held, pod, report = view(pods), pod_ids(pods)[pods // 2], EngineReport(queued=1, running=2, kv_usage=0.5)

    def once() -> object:
        held.report(pod, report)
        return held.snapshot(POOL)

    first = once()
    assert benchmark(once) is not first
