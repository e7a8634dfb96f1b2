from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from schedulers.entropy import mix
from schedulers.sampling import drawn
from schedulers.types import LoadSnapshot, PodLoad, RequestInfo
from tests.fakes.chance import five_deviations
from tests.fakes.scheduler_inputs import (
    cases,
    idle,
    ids_of,
    pod_ids,
    request_of,
    snapshot_of,
    unhurried,
)


@unhurried
@given(case=cases(), data=st.data())
def test_a_sample_has_at_least_the_asked_number_of_distinct_pods(
    case: tuple[RequestInfo, LoadSnapshot], data: st.DataObject
) -> None:
    request, snapshot = case
    pods = len(snapshot.candidates)
    count = data.draw(st.integers(0, pods - 1))
    at = drawn(request, snapshot, count)
    assert len(set(at)) == len(at) >= count
    assert set(at) <= set(range(pods))


def test_the_least_loaded_is_always_in_the_sample() -> None:
    loads = [PodLoad(inflight_tokens=100 + at) for at in range(1009)]
    loads[700] = PodLoad()
    snapshot = snapshot_of(loads)
    for number in range(50):
        assert 700 in drawn(request_of(entropy=mix(3, number)), snapshot, 4)


def test_the_pods_with_the_longest_prefix_are_always_in_the_sample() -> None:
    hits = {pod_ids(100)[at]: at for at in range(40, 50)}
    for number in range(50):
        assert {46, 47, 48, 49} <= set(drawn(request_of(entropy=mix(3, number), prefix_hits=hits), idle(100), 4))


def test_all_are_drawn_about_as_often() -> None:
    snapshot = idle(24)
    seen = Counter(at for number in range(2400) for at in drawn(request_of(entropy=mix(5, number)), snapshot, 5))
    assert len(seen) == len(ids_of(snapshot))
    mean = sum(seen.values()) / len(seen)
    assert all(abs(count - mean) < five_deviations(2400, mean / 2400) for count in seen.values()), seen
