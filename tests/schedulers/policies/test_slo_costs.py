"""What is added to the costs of pods."""

from __future__ import annotations

import pytest

from schedulers.policies.slo_costs import weigh
from schedulers.slo import broken, kept, rest_s, token_s
from schedulers.ttft import PRIOR
from schedulers.types import LoadSnapshot, PodLoad, RequestInfo, Slo
from tests.fakes.scheduler_inputs import request_of, snapshot_of

PACE_S = 1e-4
STEP_S = 2.4 * PRIOR.decode_step_s(3, 9_000)
LOAD = PodLoad(queued=1, inflight=3, inflight_tokens=9_000, pace_s=PACE_S, step_s=STEP_S, promised=((0.05, 2.0),))


def weighed(request: RequestInfo, snapshot: LoadSnapshot, costs: list[float]) -> tuple[float, float]:
    return weigh(request, snapshot, range(len(costs)), costs, 10.0)


def test_a_promise_kept_is_taken_off_and_those_broken_are_added() -> None:
    request = request_of(prompt_tokens=1000)._replace(slo=Slo(2.0, 0.1), priority=1)
    snapshot = snapshot_of([LOAD])
    cost_s, own = 1.0, 1000 + 1000 * 1000 // 64_000
    costs = [cost_s]
    likely, soonest_s = weighed(request, snapshot, costs)
    first_s = cost_s - own * PACE_S  # what others are delayed by is no wait of this request
    before_s, after_s = token_s(3, 9_000, 2.4), token_s(4, 9_000 + 1000 + 256, 2.4)
    lost = broken(LOAD.promised, before_s, after_s * (1 + own * PACE_S / rest_s(0.0, 0.0)))
    assert soonest_s == pytest.approx(first_s)
    assert likely == pytest.approx(kept(first_s, 2.0) * kept(after_s, 0.1))
    assert costs == pytest.approx([cost_s + 10.0 * (lost - 2.0 * likely)])


def test_without_promises_costs_stay_as_they_are() -> None:
    costs = [1.0, 2.0]
    assert weighed(request_of(), snapshot_of([PodLoad(), PodLoad(inflight=1)]), costs)[0] == 1.0
    assert costs == [1.0, 2.0]


def test_a_full_cache_is_waited_for() -> None:
    full = PodLoad(inflight=1, inflight_tokens=99_000, kv_capacity_tokens=100_000, e2e_ewma_s=10.0)
    costs = [0.0, 0.0]
    weighed(request_of(prompt_tokens=9_000), snapshot_of([full, PodLoad()]), costs)
    assert costs[0] > 0.5
    assert costs[1] == 0.0
