"""The state of one pod: whose requests its engine holds, and what stays when it comes back."""

from __future__ import annotations

from schedulers.ttft import PRIOR, Costs, pace
from schedulers.types import Adapters, Pod, PodId, PodLoad
from statesync.load.pod_state import PodState
from statesync.load.pool_state import PoolState
from statesync.types import EngineReport, InflightNumbers


def pod_state(name: str) -> PodState:
    return PodState(Pod(PodId(name), f"{name}:8000"))


def test_own_requests_that_an_engine_reports_are_not_counted_twice() -> None:
    a = pod_state("a")
    for _ in range(3):
        a.begin(10, 10, 10, 1.0)
    a.shift_others(InflightNumbers(), InflightNumbers(2, 20, 20, 2), 1.0)
    a.requests, a.other_requests = 0, 0  # all have ended before the page arrived
    a.read(EngineReport(queued=4, running=1), 2.0)
    assert a.load().foreign == 0
    a.read(EngineReport(queued=4, running=1), 3.0)
    assert a.load().foreign == 5


def test_requests_that_bypass_the_gateways_are_load() -> None:
    a = pod_state("a")
    a.begin(10, 10, 10, 1.0)
    pool_state = PoolState("default")
    pool_state.add(a)
    a.read(EngineReport(queued=4, running=3), 2.0)
    pool_state.changed(a)
    assert pool_state.snapshot(2.0).columns.tokens == (10 + 64 * (1 + 6),)
    a.read(EngineReport(queued=0, running=1), 3.0)
    pool_state.changed(a)
    assert pool_state.snapshot(3.0).columns.tokens == (10 + 64,)


def test_starting_over_keeps_only_this_replica_s_open_requests() -> None:
    a = pod_state("a")
    a.requests = 2
    a.shift_others(InflightNumbers(), InflightNumbers(1, 2, 3), 5.0)
    a.read(EngineReport(queued=1, running=2, kv_usage=0.5), 9.0)
    a.blockers.add("probe")
    a.start_over()
    step_s = PRIOR.decode_step_s(2, 0)
    assert a.load() == PodLoad(inflight=2, head_since=5.0, step_s=step_s, pace_s=pace(PRIOR, 1.0, step_s))
    assert not a.blockers


def test_each_number_is_in_its_field_of_the_load() -> None:
    a = pod_state("a")
    a.shift_others(InflightNumbers(), InflightNumbers(10, 200, 300, 0, 40, 500), 7.5)
    a.requests, a.tokens, a.prefill_tokens, a.prefilling, a.prefill_work = 1, 2, 3, 4, 5
    a.queued, a.running, a.kv_usage, a.foreign, a.kv_capacity_tokens = 21, 22, 0.5, 24, 25
    a.ttft_ewma_s, a.e2e_ewma_s, a.reported_at, a.kv_share, a.speed.factor = 0.25, 0.125, 9.0, 0.5, 2.0
    costs = Costs(1e-3, 0.01, 1e-3, 1e-5)
    step_s = 2.0 * costs.decode_step_s(11 - 44, 202 * 0.5)
    a.adapters = Adapters(frozenset("x"), frozenset("y"), 2)
    assert a.load(costs) == PodLoad(
        queued=21,
        running=22,
        kv_usage=0.5,
        inflight=11,
        inflight_tokens=202,
        pending_prefill_tokens=303,
        ttft_ewma_s=0.25,
        reported_at=9.0,
        prefilling=44,
        prefill_work=505,
        head_since=7.5,
        pace_s=pace(costs, 2.0, step_s),
        kv_capacity_tokens=25,
        e2e_ewma_s=0.125,
        adapters=a.adapters,
        foreign=24,
        step_s=step_s,
        kv_share=0.5,
    )
