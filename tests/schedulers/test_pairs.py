"""Which requests two pods serve, and which pod generates the answer."""

from __future__ import annotations

import pytest

from schedulers.pairs import Side, alone_is_sooner, decode_pod, is_short, side_of
from schedulers.types import Candidate, LoadSnapshot, Pod, PodId, PodLoad, RequestInfo, Role


def pod(name: str, role: Role = "both", **labels: str) -> Pod:
    return Pod(PodId(name), f"{name}:8000", role=role, labels=labels)


def snapshot(*pods: Pod, **loads: PodLoad) -> LoadSnapshot:
    return LoadSnapshot.of([Candidate(each, loads.get(each.id, PodLoad())) for each in pods])


def request(tokens: int = 4000, **fields: object) -> RequestInfo:
    return RequestInfo("1", "m", tokens, 0, 0.0, 7, 0, **fields)  # type: ignore[arg-type]


def test_a_side_is_a_role_or_a_label() -> None:
    pods = snapshot(pod("p", "prefill"), pod("d", "decode"), pod("b"), pod("l", "decode", tier="fast"))
    chosen = side_of(pods, Side("role", "decode"))
    assert chosen is not None
    assert [each.pod.id for each in chosen.candidates] == ["d", "b", "l"]
    fast = side_of(pods, Side("tier", "fast"))
    assert fast is not None
    assert [each.pod.id for each in fast.candidates] == ["l"]
    assert side_of(pods, Side("tier", "slow")) is None
    assert side_of(fast, Side("tier", "fast")) is fast


def test_a_prompt_is_short_where_a_decode_pod_has_nearly_all_of_it() -> None:
    decode = snapshot(pod("d"), pod("e"))
    assert is_short(request(256), decode, 256)
    assert not is_short(request(4000), decode, 256)
    assert is_short(request(4000, prefix_hits={"e": 60}), decode, 256)
    assert not is_short(request(4000, prefix_hits={"e": 60}, tried=frozenset({"e"})), decode, 256)
    assert not is_short(request(4000, prefix_hits={"other": 60}), decode, 256)


def test_the_answer_is_generated_where_steps_are_short() -> None:
    busy = PodLoad(inflight=40, inflight_tokens=40_000, step_s=0.02)
    assert decode_pod(request(), snapshot(pod("d"), pod("e"), d=busy), pod("p")) == "e"


def test_the_answer_is_not_generated_where_it_would_wait_for_blocks() -> None:
    full = PodLoad(inflight=2, inflight_tokens=95_000, kv_capacity_tokens=100_000)
    room = PodLoad(inflight=30, inflight_tokens=20_000, kv_capacity_tokens=100_000, step_s=0.01)
    assert decode_pod(request(8000), snapshot(pod("d"), pod("e"), d=full, e=room), pod("p")) == "e"


def test_the_answer_is_generated_near_the_prompt() -> None:
    pods = snapshot(pod("d", zone="a"), pod("e", zone="b"))
    assert decode_pod(request(), pods, pod("p", zone="b")) == "e"
    assert decode_pod(request(), pods, pod("p", zone="a")) == "d"


def test_neither_a_pod_that_failed_nor_the_prefill_pod_itself_generates() -> None:
    pods = snapshot(pod("d"), pod("e"), pod("p"))
    assert decode_pod(request(tried=frozenset({PodId("d")})), pods, pod("p")) == "e"
    assert decode_pod(request(tried=frozenset({PodId("d"), PodId("e")})), pods, pod("p")) is None


@pytest.mark.parametrize(("decoding", "alone"), [(0, True), (20, False)])
def test_an_idle_decode_pod_relieves_a_busy_prefill_pod(decoding: int, alone: bool) -> None:
    waits = PodLoad(inflight=3, prefilling=3, prefill_work=24_000)
    decode = snapshot(pod("d"), d=PodLoad(inflight=decoding))
    assert alone_is_sooner(request(), snapshot(pod("p"), p=waits), decode) is alone


def test_without_an_untried_prefill_pod_the_decode_pod_is_alone() -> None:
    prefill, decode = snapshot(pod("p")), snapshot(pod("d"), d=PodLoad(inflight=50))
    assert alone_is_sooner(request(tried=frozenset({PodId("p")})), prefill, decode)
    assert not alone_is_sooner(request(), prefill, decode)
