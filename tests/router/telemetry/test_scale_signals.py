"""The numbers for autoscalers: from nothing, with limits, without, and how they add up the waits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pytest

from router.telemetry.scale_signals import PoolBacklog, engine_wait_s, families, saturation
from schedulers.types import Pod, PodId, PodLoad
from statesync.types import PodStatus


def pod(load: PodLoad | None = None, limit: int | None = 10, *, routable: bool = True, pool: str = "p") -> PodStatus:
    return PodStatus(Pod(PodId("a"), "a"), pool, load or PodLoad(), routable, (), limit=limit)


def signals(
    pods: Sequence[PodStatus], backlog: PoolBacklog | None = None, pools: Sequence[str] = ("p",)
) -> Mapping[str, float]:
    """By name, without the part that all names have, of the pool `p`."""
    found = {}
    for family in families(pools, pods, {"p": backlog} if backlog is not None else {}, now=100.0):
        for sample in family.samples():
            assert sample.labels["pool"] in pools
            if sample.labels["pool"] == "p":
                found[sample.name.removeprefix("turnout_scale_signal_")] = sample.value
    return found


def test_a_pool_without_pods_and_requests_asks_for_nothing() -> None:
    assert signals([]) == {"waiting_requests": 0, "backlog_seconds": 0, "saturation_ratio": 0}


def test_requests_that_wait_for_a_first_pod_are_a_backlog_at_once() -> None:
    first = signals([], PoolBacklog(1, 300, 0.0, 0.01))
    assert first == {"waiting_requests": 1, "backlog_seconds": 1, "saturation_ratio": 1}
    assert signals([], PoolBacklog(200, 60_000, 0.0, 42.0))["backlog_seconds"] == 42


def test_the_backlog_is_what_waits_over_how_fast_it_is_served() -> None:
    assert signals([pod()], PoolBacklog(50, 40_000, 8_000.0, 3.0))["backlog_seconds"] == pytest.approx(5.0)


def test_saturation_is_of_places_and_above_one_while_requests_wait() -> None:
    assert saturation([pod(PodLoad(inflight=4)), pod(PodLoad(inflight=6))], PoolBacklog()) == 0.5
    assert saturation([pod(PodLoad(inflight=10))], PoolBacklog(requests=5)) == 1.5


def test_pods_without_a_limit_are_as_full_as_their_cache() -> None:
    assert saturation([pod(PodLoad(kv_usage=0.2), None), pod(PodLoad(kv_usage=0.6), None)], PoolBacklog()) == 0.4


def test_a_pod_that_gets_no_requests_is_no_capacity() -> None:
    assert signals([pod(PodLoad(inflight=5)), pod(routable=False)])["saturation_ratio"] == 0.5


def test_prompts_that_wait_in_the_pods_are_part_of_the_backlog() -> None:
    busy = PodLoad(prefilling=2, prefill_work=50_000, head_since=100.0, pace_s=1e-4, step_s=0.01)
    assert engine_wait_s([pod(busy), pod()], 100.0) == pytest.approx(2.5, rel=0.1)
    assert engine_wait_s([], 100.0) == 0.0


def test_every_pool_has_a_sample() -> None:
    every = list(families(["p", "q"], [pod(), pod(pool="q")], {}, 0.0))
    assert [len(list(family.samples())) for family in every] == [2, 2, 2]
