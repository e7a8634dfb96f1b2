"""Which pods pass each filter. More on `label` in `test_label.py`."""

from __future__ import annotations

import pytest
from hypothesis import given

from schedulers.filters.headroom import HasHeadroom
from schedulers.filters.label import HasLabel
from schedulers.filters.role import HasRole
from schedulers.profile import FILTERS
from schedulers.protocols import Filter
from schedulers.types import Candidate, LoadSnapshot, Pod, PodLoad, RequestInfo, Role
from tests.fakes.scheduler_inputs import cases, pod_ids, request_of, snapshot_of, unhurried

EVERY: list[Filter] = [
    HasRole(),
    HasRole(("prefill",)),
    HasLabel("gpu", equals="h100"),
    HasLabel("gpu", not_in=("l4",)),
    HasHeadroom(),
    HasHeadroom(0.4, 1, 1),
]


def snapshot(*roles: Role) -> LoadSnapshot:
    pods = [Pod(pod, pod, role=role, labels={}) for pod, role in zip(pod_ids(len(roles)), roles, strict=True)]
    return LoadSnapshot.of([Candidate(pod, PodLoad()) for pod in pods])


def test_every_filter_of_the_table_is_tested_here() -> None:
    assert {each.name for each in EVERY} == set(FILTERS)
    assert all(FILTERS[each.name] is type(each) for each in EVERY)


@unhurried
@given(case=cases())
def test_a_filter_never_widens_and_keeps_the_order(case: tuple[RequestInfo, LoadSnapshot]) -> None:
    for each in EVERY:
        at = each.passes(*case)
        assert list(at) == sorted(set(at)), each
        assert set(at) <= set(range(len(case[1].candidates))), each


@pytest.mark.parametrize(
    ("roles", "expected"),
    [(("both", "decode"), [0, 2]), (("prefill",), [1]), (("both", "decode", "prefill"), [0, 1, 2])],
)
def test_role_passes_pods_of_its_roles(roles: tuple[str, ...], expected: list[int]) -> None:
    assert HasRole(roles).passes(request_of(), snapshot("both", "prefill", "decode")) == expected


@pytest.mark.parametrize("roles", [(), ("router",)])
def test_role_needs_known_roles(roles: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match="roles must be some of both, prefill, decode, not "):
        HasRole(roles)


LOADS = [
    PodLoad(),
    PodLoad(kv_usage=0.5, queued=4, inflight=8),
    PodLoad(kv_usage=0.96, queued=5, inflight=9),
    PodLoad(kv_usage=1.0, queued=400, inflight=900),
]


@pytest.mark.parametrize(
    ("each", "expected"),
    [
        (HasHeadroom(), [0, 1]),
        (HasHeadroom(1.0, 5, 0), [0, 1]),
        (HasHeadroom(1.0, 0, 9), [0, 1]),
        (HasHeadroom(0.96, 0, 0), [0, 1, 2]),
        (HasHeadroom(1.0, 0, 0), [0, 1, 2, 3]),
    ],
)
def test_headroom_is_below_each_limit_and_zero_means_no_limit(each: HasHeadroom, expected: list[int]) -> None:
    assert each.passes(request_of(), snapshot_of(LOADS)) == expected


def test_headroom_is_preferred_and_the_other_filters_are_required() -> None:
    assert (HasHeadroom().required, HasRole().required, HasLabel("gpu", equals="x").required) == (False, True, True)
