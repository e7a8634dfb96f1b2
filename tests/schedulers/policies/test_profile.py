"""Composed policies: what the parts do together, and the errors for wrong specs."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schedulers import registry
from schedulers.entropy import mix
from schedulers.errors import InvalidParams
from schedulers.policies.profile import Profile
from schedulers.profile import PICKERS, SCORERS
from schedulers.types import Candidate, Decision, LoadSnapshot, PodLoad, Rejection, RequestInfo
from tests.fakes.scheduler_inputs import cases, ids_of, pod_ids, request_of, snapshot_of, unhurried

LLM_D = [{"name": "queue", "weight": 2}, {"name": "kv_usage", "weight": 2}, {"name": "prefix", "weight": 3}]

SPECS = st.lists(
    st.fixed_dictionaries({"name": st.sampled_from(list(SCORERS)), "weight": st.integers(0, 9)}), max_size=5
)


def of(*scorers: dict[str, object], **params: Any) -> Profile:
    return Profile(scorers=scorers, **params)


def labelled(snapshot: LoadSnapshot, *gpus: str) -> LoadSnapshot:
    pairs = zip(snapshot.candidates, gpus, strict=True)
    candidates = tuple(Candidate(pod._replace(labels={"gpu": gpu}), load) for (pod, load), gpu in pairs)
    return snapshot._replace(candidates=candidates)


def test_without_parameters_it_is_llm_ds_default_profile() -> None:
    assert registry.create("profile") == Profile(scorers=LLM_D, picker={"name": "best"}) == Profile()


def test_the_score_is_the_weighted_mean() -> None:
    loads = [PodLoad(queued=4, kv_usage=0.5), PodLoad(queued=2, kv_usage=0.25), PodLoad(queued=0, kv_usage=1.0)]
    hits = {pod_ids(3)[0]: 10}
    answer = Profile().pick(request_of(prompt_tokens=640, prefix_hits=hits), snapshot_of(loads))
    assert isinstance(answer, Decision)
    assert (answer.pod, answer.policy, answer.reason) == (pod_ids(3)[0], "profile", "best")
    assert answer.score == pytest.approx((2 * 0.0 + 2 * 0.5 + 3 * 1.0) / 7)


@unhurried
@given(case=cases(), specs=SPECS, picker=st.sampled_from(list(PICKERS)))
def test_a_score_stays_between_0_and_1(
    case: tuple[RequestInfo, LoadSnapshot], specs: list[dict[str, object]], picker: str
) -> None:
    answer = of(*specs, picker={"name": picker}).pick(*case)
    if isinstance(answer, Decision):
        assert -1e-9 <= answer.score <= 1 + 1e-9


@unhurried
@given(case=cases(), specs=SPECS, picker=st.sampled_from(list(PICKERS)), idle=st.sampled_from(list(SCORERS)))
def test_a_weight_of_0_changes_nothing(
    case: tuple[RequestInfo, LoadSnapshot], specs: list[dict[str, object]], picker: str, idle: str
) -> None:
    some = {"picker": {"name": picker}}
    with_it = of({"name": idle, "weight": 0}, *specs, **some)
    assert with_it.pick(*case) == of(*specs, **some).pick(*case)
    assert with_it == of(*specs, **some)


@unhurried
@given(
    case=cases(),
    specs=st.lists(
        st.fixed_dictionaries({"name": st.sampled_from(list(SCORERS)), "weight": st.floats(0.001, 1.0)}), max_size=5
    ),
    picker=st.sampled_from(list(PICKERS)),
    times=st.floats(0.1, 1000.0),
)
def test_scaling_all_weights_changes_nothing(
    case: tuple[RequestInfo, LoadSnapshot], specs: list[dict[str, Any]], picker: str, times: float
) -> None:
    scaled = [{**spec, "weight": spec["weight"] * times} for spec in specs]
    some = {"picker": {"name": picker}}
    assert of(*scaled, **some).pick(*case) == of(*specs, **some).pick(*case)


@unhurried
@given(case=cases(), specs=SPECS, filters=st.lists(st.sampled_from(["role", "headroom"]), max_size=3))
def test_filters_never_widen(
    case: tuple[RequestInfo, LoadSnapshot], specs: list[dict[str, object]], filters: list[str]
) -> None:
    answer = of(*specs, filters=[{"name": name} for name in filters]).pick(*case)
    if isinstance(answer, Decision):
        assert answer.pod in set(ids_of(case[1])) - case[0].tried


def test_a_required_filter_that_no_pod_passes_rejects_and_names_itself() -> None:
    given_to = labelled(snapshot_of([PodLoad()] * 2), "l4", "l4")
    policy = Profile(filters=[{"name": "label", "label": "gpu", "in": ["h100", "h200"]}])
    assert policy.pick(request_of(), given_to) == Rejection("no_pod_passes_label")
    assert policy.pick(request_of(tried=frozenset(pod_ids(2))), given_to) == Rejection("no_untried_pod")
    preferred = Profile(filters=[{"name": "label", "label": "gpu", "in": ["h100"], "required": False}])
    assert isinstance(preferred.pick(request_of(), given_to), Decision)


def test_a_preferred_filter_that_no_pod_passes_is_ignored() -> None:
    full = snapshot_of([PodLoad(kv_usage=0.99), PodLoad(kv_usage=0.98)])
    answer = Profile(filters=[{"name": "headroom"}]).pick(request_of(), full)
    assert isinstance(answer, Decision)
    assert answer.pod == pod_ids(2)[1]
    refused = Profile(filters=[{"name": "headroom", "required": True}]).pick(request_of(), full)
    assert refused == Rejection("no_pod_passes_headroom")


def test_a_preferred_filter_removes_no_pod_that_a_required_one_would_leave() -> None:
    snapshot = labelled(snapshot_of([PodLoad(kv_usage=0.99), PodLoad()]), "h100", "l4")
    filters = [{"name": "headroom"}, {"name": "label", "label": "gpu", "equals": "h100"}]
    answer = Profile(filters=filters).pick(request_of(), snapshot)
    assert isinstance(answer, Decision)
    assert answer.pod == pod_ids(2)[0]


@pytest.mark.parametrize("count", [2, 3, 4, 5, 9])
def test_any_number_of_scorers_is_summed(count: int) -> None:
    specs = [{"name": "kv_usage", "weight": at + 1} for at in range(count)]
    answer = of(*specs).pick(request_of(), snapshot_of([PodLoad(kv_usage=0.75), PodLoad(kv_usage=0.5)]))
    assert isinstance(answer, Decision)
    assert answer.pod == pod_ids(2)[1]
    assert answer.score == pytest.approx(0.5)


def test_without_scorers_any_pod_is_picked() -> None:
    snapshot = snapshot_of([PodLoad(queued=at, inflight=at) for at in range(4)])
    seen = {of().pick(request_of(entropy=mix(1, number)), snapshot) for number in range(60)}
    assert seen == {Decision(pod, "profile", 0.0, "best") for pod in pod_ids(4)}


def test_a_sample_scores_a_few_pods_with_the_holders_among_them() -> None:
    loads = [PodLoad(queued=at, inflight_tokens=at * 100) for at in range(200)]
    policy = of({"name": "prefix", "weight": 3}, {"name": "queue"}, sample=4)
    holder = {pod_ids(200)[150]: 15}
    seen = Counter(
        policy.pick(request_of(entropy=mix(2, number), prefix_hits=hits), snapshot_of(loads))
        for number in range(20)
        for hits in ({}, holder)
    )
    pods = {answer.pod for answer in seen if isinstance(answer, Decision)}
    assert pods == {pod_ids(200)[0], pod_ids(200)[150]}


def test_an_unknown_parameter_is_refused_with_the_known_ones() -> None:
    with pytest.raises(InvalidParams) as refused:
        registry.create("profile", {"scorer": []})
    said = str(refused.value)
    assert said.startswith("profile: no parameter 'scorer'; its parameters: filters (list of filters, default ()), ")
    assert "picker (picker, default {'name': 'best'}), sample (int from 0, default 0)" in said


def test_specs_that_change_after_it_is_built_do_not_change_it() -> None:
    specs: list[dict[str, object]] = [{"name": "queue"}]
    policy = Profile(scorers=specs)
    specs[0]["name"] = "prefix"
    assert [scorer.name for _, scorer in policy.parts.scorers] == ["queue"]
