"""The load view by the number of pods: a request's accounting, a snapshot after something changed, and 500 adapters of
which each is on four pods.
"""

from __future__ import annotations

import random

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from loadtests.bench.micro.pools import POD_COUNTS, POOL, in_turn, pod_ids, request, view
from schedulers.types import PodId
from statesync.load.view import LoadView
from statesync.types import EngineReport

ADAPTERS = tuple(f"adapter-{number}" for number in range(500))


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


def with_adapters(pods: int) -> tuple[LoadView, dict[PodId, frozenset[str]]]:
    """A pool under load, and what each pod lists."""
    held, rng = view(pods), random.Random(pods)
    lists = {pod: {"base"} for pod in pod_ids(pods)}
    for adapter in ADAPTERS:
        for pod in rng.sample(pod_ids(pods), 4):
            lists[pod].add(adapter)
    for pod, models in lists.items():
        held.set_models(pod, frozenset(models))
    return held, {pod: frozenset(models) for pod, models in lists.items()}


@pytest.mark.parametrize("pods", POD_COUNTS)
def bench_adapter_request(benchmark: BenchmarkFixture, pods: int) -> None:
    """The snapshot of an adapter's pods, and a request's accounting on one of them."""
    benchmark.group = "view"
    benchmark.extra_info.update(series="request of one of 500 adapters", size=pods)
    held, _ = with_adapters(pods)
    following, adapter = in_turn([request(number) for number in range(64)]), in_turn(list(ADAPTERS))

    def once() -> None:
        charge = held.reserve(held.snapshot(POOL, adapter()).candidates[0].pod.id, following())
        held.prefill_done(charge)
        held.release(charge)

    before = held.inflight
    benchmark(once)
    assert held.inflight == before


@pytest.mark.parametrize("pods", POD_COUNTS)
def bench_adapter_update(benchmark: BenchmarkFixture, pods: int) -> None:
    """An adapter is loaded on a pod and unloaded."""
    benchmark.group = "view"
    benchmark.extra_info.update(series="load and unload of an adapter", size=pods)
    held, lists = with_adapters(pods)
    pod, adapter = in_turn(pod_ids(pods)), in_turn(list(ADAPTERS))

    def once() -> None:
        at, more = pod(), adapter()
        held.set_models(at, lists[at] | {more})
        held.set_models(at, lists[at])

    benchmark(once)
    assert POOL in held.mixed
