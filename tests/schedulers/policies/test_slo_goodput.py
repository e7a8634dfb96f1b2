"""`slo_goodput` in examples: what it protects, what it gives up, whom it refuses."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schedulers import registry
from schedulers.errors import InvalidParams
from schedulers.policies.prefix_aware import PrefixAware
from schedulers.policies.slo_goodput import SloGoodput
from schedulers.ttft import PRIOR
from schedulers.types import Decision, LoadSnapshot, PodLoad, Rejection, RequestInfo, Slo
from tests.fakes.scheduler_inputs import cases, ids_of, pod_ids, request_of, snapshot_of, unhurried

A, B, C = pod_ids(3)
POLICY = SloGoodput()
TIGHT = Slo(ttft_s=1.0, tpot_s=0.05)
PACE_S = 1 / 25_000


def busy(work_s: float = 0.0, decoding: int = 0, promised: tuple[tuple[float, float], ...] = ()) -> PodLoad:
    """A pod with this prefill before the next prompt, and requests of 8,000 tokens that decode."""
    waiting = 1 if work_s else 0
    return PodLoad(
        inflight=decoding + waiting,
        inflight_tokens=8_000 * decoding,
        prefilling=waiting,
        prefill_work=int(work_s / PACE_S),
        pace_s=PACE_S,
        step_s=PRIOR.decode_step_s(decoding, 8_000 * decoding),
        promised=promised,
    )


def picked(request: RequestInfo, *loads: PodLoad, policy: SloGoodput = POLICY) -> Decision:
    answer = policy.pick(request, snapshot_of(loads))
    assert isinstance(answer, Decision)
    return answer


def asking(slo: Slo, priority: int = 0, prompt: int = 2_000, deadline: float | None = None) -> RequestInfo:
    return request_of(prompt_tokens=prompt)._replace(slo=slo, priority=priority, deadline=deadline)


@unhurried
@given(cases())
def test_where_nothing_is_promised_it_is_prefix_aware(case: tuple[RequestInfo, LoadSnapshot]) -> None:
    ours, theirs = POLICY.pick(*case), PrefixAware().pick(*case)
    if isinstance(theirs, Decision):
        assert isinstance(ours, Decision)
        assert ours.pod == theirs.pod
    else:
        assert ours == theirs


SLOS = st.builds(Slo, st.sampled_from((0.0, 0.3, 3.0)), st.sampled_from((0.0, 0.02, 0.1)))


@unhurried
@given(cases(max_pods=40), SLOS, st.sampled_from((-3, 0, 2)), st.sampled_from((None, -1.0, 20.0)))
def test_with_promises_the_pick_is_untried_and_always_the_same(
    case: tuple[RequestInfo, LoadSnapshot], slo: Slo, priority: int, deadline: float | None
) -> None:
    request, snapshot = case[0]._replace(slo=slo, priority=priority, deadline=deadline), case[1]
    answer = POLICY.pick(request, snapshot)
    assert POLICY.pick(request, snapshot) == answer
    if isinstance(answer, Decision):
        assert answer.pod in set(ids_of(snapshot)) - request.tried
    elif answer.reason == "slo_out_of_reach":
        assert priority < 0 and answer.retry_after_s >= 1.0
    else:
        assert set(ids_of(snapshot)) <= request.tried


def test_a_pod_that_keeps_the_slo_is_taken_before_one_that_does_not() -> None:
    assert picked(asking(TIGHT), busy(2.0), busy(0.3)).pod == B
    assert picked(asking(TIGHT), busy(decoding=80), busy(0.3)).pod == B, "tokens would come too slowly on the first"


def test_a_long_prompt_goes_where_it_holds_up_no_promise() -> None:
    many = ((0.05, 30.0),)
    loads = busy(decoding=30, promised=many), busy(0.8, decoding=30)
    assert picked(asking(Slo(10.0, 0.5), prompt=30_000), *loads).pod == B
    soonest = PrefixAware().pick(asking(Slo(10.0, 0.5), prompt=30_000), snapshot_of(loads))
    assert isinstance(soonest, Decision)
    assert soonest.pod == A


def test_a_request_that_is_late_anyway_goes_where_promises_are_lost_already() -> None:
    promised = ((0.05, 40.0),)
    lost, healthy = busy(4.0, decoding=90, promised=promised), busy(1.5, decoding=20, promised=promised)
    late = picked(asking(Slo(ttft_s=0.2, tpot_s=0.05), prompt=40_000), lost, healthy)
    assert (late.pod, late.reason) == (A, "late")


def test_patience_bounds_how_long_it_waits_for_others_promises() -> None:
    promised = ((0.05, 40.0),)
    lost, healthy = busy(4.0, decoding=90, promised=promised), busy(1.5, decoding=20, promised=promised)
    late = asking(Slo(ttft_s=0.2, tpot_s=0.05), prompt=40_000)
    assert picked(late, lost, healthy, policy=SloGoodput(patience_s=0.0)).pod == B


def test_a_higher_priority_may_break_promises_that_a_lower_one_may_not() -> None:
    # The second pod is free of promises and too slow for the request's own.
    loads = busy(decoding=40, promised=((0.07, 20.0),)), busy(3.0)
    own = Slo(ttft_s=2.0, tpot_s=0.5)
    assert picked(asking(own, priority=3, prompt=9_000), *loads).pod == A
    assert picked(asking(own, priority=-1, prompt=9_000), *loads).pod == B


def test_a_deadline_counts_as_a_promise() -> None:
    slow, fast = busy(0.0, decoding=150), busy(1.0)
    assert picked(asking(Slo()), slow, fast).pod == A
    assert picked(asking(Slo(), deadline=6.0), slow, fast).pod == B


def test_priorities_below_the_limit_are_refused_where_no_pod_keeps_the_slo() -> None:
    full = snapshot_of([busy(5.0), busy(4.0)])
    refused = POLICY.pick(asking(TIGHT, priority=-1), full)
    assert isinstance(refused, Rejection)
    assert refused.reason == "slo_out_of_reach"
    assert 2.0 < refused.retry_after_s < 4.0
    assert isinstance(POLICY.pick(asking(TIGHT), full), Decision)
    assert isinstance(SloGoodput(shed_below=-5).pick(asking(TIGHT, priority=-1), full), Decision)
    assert isinstance(POLICY.pick(asking(Slo(), priority=-1), full), Decision), "it was promised nothing"
    hopeless = asking(TIGHT, priority=-1, prompt=60_000)
    assert isinstance(POLICY.pick(hopeless, full), Decision), "no pod is ever quick enough for it"


def test_the_time_since_the_arrival_counts() -> None:
    waited = snapshot_of([busy(0.3), busy(0.3)])._replace(taken_at=30.0)
    assert picked(asking(TIGHT), busy(0.3)).reason == "keeps_slo"
    late = POLICY.pick(asking(TIGHT), waited)
    assert isinstance(late, Decision)
    assert late.reason == "late"


@pytest.mark.parametrize("params", [{"patience_s": -1.0}, {"patience_s": "long"}, {"shed_below": 0.5}, {"slo": 1}])
def test_bad_parameters_are_refused(params: dict[str, object]) -> None:
    with pytest.raises(InvalidParams):
        registry.create("slo_goodput", params)
