from __future__ import annotations

from schedulers.entropy import index
from schedulers.policies.random import Random
from schedulers.types import Decision, PodLoad
from tests.fakes.scheduler_inputs import idle, pod_ids, request_of, snapshot_of


def test_the_requests_random_bits_choose_the_pod() -> None:
    drawn = pod_ids(10)[index(42, 10)]
    assert Random().pick(request_of(entropy=42), idle(10)) == Decision(drawn, "random", 0.0, "drawn")


def test_load_and_hits_do_not_change_the_pod() -> None:
    loaded = snapshot_of([PodLoad(inflight=at, inflight_tokens=at * 1000) for at in range(10)])
    for bits in range(50):
        plain = Random().pick(request_of(entropy=bits), idle(10))
        assert Random().pick(request_of(entropy=bits, prefix_hits={pod_ids(10)[3]: 9}), loaded) == plain
