"""Which replicas are live, on one clock, and which one is elected."""

from __future__ import annotations

import pytest

from schedulers.types import PodId
from statesync.store.protocol import ReplicaInfo
from statesync.store.redis.lease import LiveReplicas, PauseDetector
from statesync.store.redis.presence import digest_of


def test_a_replica_lives_a_lease_longer_each_time_it_is_seen() -> None:
    live_replicas = LiveReplicas("me", 5.0)
    assert live_replicas.seen("other", "t1", 100.0)
    assert not live_replicas.seen("other", "t1", 103.0)
    assert live_replicas.next_lapse() == 108.0
    assert live_replicas.lapsed(107.9) == []
    assert live_replicas.lapsed(108.0) == ["other"]
    assert live_replicas.lapsed(108.0) == []
    assert live_replicas.next_lapse() is None


def test_a_replica_read_from_the_server_has_the_rest_of_its_lease() -> None:
    live_replicas = LiveReplicas("me", 5.0)
    live_replicas.listed("other", "t1", 1.5, 100.0)
    assert list(live_replicas.live(100.0)) == [ReplicaInfo("me", 0.0), ReplicaInfo("other", 3.5)]
    assert live_replicas.next_lapse() == 101.5
    live_replicas.listed("far ahead", "t1", 99.0, 100.0)
    assert live_replicas.lapsed(105.0) == ["other", "far ahead"]


def test_a_read_lease_does_not_shorten_that_of_a_message() -> None:
    live_replicas = LiveReplicas("me", 5.0)
    live_replicas.seen("other", "t1", 100.0)
    live_replicas.listed("other", "t1", 2.0, 100.0)
    assert live_replicas.next_lapse() == 105.0


def test_only_the_live_incarnation_can_be_gone() -> None:
    live_replicas = LiveReplicas("me", 5.0)
    live_replicas.seen("other", "t1", 100.0)
    live_replicas.seen("other", "t2", 101.0)
    assert not live_replicas.gone("other", "t1")
    assert live_replicas.others() == ["other"]
    assert live_replicas.gone("other", "t2")
    assert not live_replicas.gone("other", "t2")
    assert live_replicas.others() == []


def test_every_pod_has_exactly_one_elected_replica_and_only_a_leaving_replica_s_pods_move() -> None:
    names = ["a", "b", "c"]
    replicas = {name: LiveReplicas(name, 5.0) for name in names}
    for name, live_replicas in replicas.items():
        for other in names:
            if other != name:
                live_replicas.seen(other, "t", 0.0)
    pods = [f"10.0.0.{n}:8000" for n in range(300)]
    before = {pod: [name for name in names if replicas[name].elected(pod)] for pod in pods}
    assert all(len(owners) == 1 for owners in before.values())
    assert all(60 < sum(owners == [name] for owners in before.values()) < 140 for name in names)
    for name in ("a", "b"):
        assert replicas[name].gone("c", "t")
    after = {pod: [name for name in ("a", "b") if replicas[name].elected(pod)] for pod in pods}
    assert all(after[pod] == owners for pod, owners in before.items() if owners != ["c"])


def test_a_lone_replica_is_elected_for_every_pod() -> None:
    assert LiveReplicas("me", 5.0).elected("10.0.0.1:8000")


def of_two(digest: int | None) -> LiveReplicas:
    """`me` with the digest 7 of its pods, and another live replica after a beat."""
    live_replicas = LiveReplicas("me", 5.0)
    live_replicas.digest = 7
    live_replicas.seen("other", "t", 0.0)
    live_replicas.beat("other", digest)
    return live_replicas


PODS = [PodId(f"10.0.0.{n}:8000") for n in range(100)]


def test_other_pods_have_to_be_read_if_they_are_others_at_two_beats_in_a_row() -> None:
    live_replicas = of_two(8)
    assert not live_replicas.beat("other", 9)
    assert live_replicas.beat("other", 9)
    live_replicas.took("other", {"chat": PODS})
    assert live_replicas.beat("other", 9), "what was read was of an earlier moment"
    same = digest_of({"chat": PODS})
    assert not live_replicas.beat("other", same)
    assert not live_replicas.beat("other", same)
    assert not live_replicas.beat("unknown", 9)


@pytest.mark.parametrize("digest", [7, None])
def test_a_replica_with_the_same_pods_and_one_that_names_none_count_as_having_all(digest: int | None) -> None:
    live_replicas = of_two(digest)
    assert not live_replicas.beat("other", digest)
    assert 20 < sum(map(live_replicas.elected, PODS)) < 80
    assert live_replicas.differing() == {}


def test_a_replica_whose_first_digest_is_another_one_has_no_pod_until_it_is_read_and_one_that_was_alike_keeps_all() -> (
    None
):
    assert all(map(of_two(9).elected, PODS))
    live_replicas = of_two(7)
    before = [live_replicas.elected(pod) for pod in PODS]
    live_replicas.beat("other", 9)
    assert [live_replicas.elected(pod) for pod in PODS] == before


def test_pods_of_one_replica_are_those_of_every_replica_with_the_same_digest() -> None:
    pools = {"chat": PODS[:50]}
    live_replicas = of_two(digest_of(pools))
    live_replicas.took("other", pools)
    live_replicas.seen("third", "t", 0.0)
    assert not live_replicas.beat("third", digest_of(pools))
    assert not live_replicas.beat("third", digest_of(pools))
    assert live_replicas.differing() == {"other": pools, "third": pools}


def test_a_replica_is_elected_for_pods_that_no_other_has_and_leads_chores_as_before() -> None:
    live_replicas = of_two(9)
    before = [live_replicas.leads(pod) for pod in PODS]
    live_replicas.took("other", {"chat": PODS[:50]})
    assert all(map(live_replicas.elected, PODS[50:]))
    assert 0 < sum(map(live_replicas.elected, PODS[:50])) < 50
    assert list(live_replicas.differing()) == ["other"]
    assert [live_replicas.leads(pod) for pod in PODS] == before
    live_replicas.beat("other", 7)
    assert not all(map(live_replicas.elected, PODS[50:])), "it has the same pods by now"


def test_a_process_that_was_paused_waits_before_others_lapse() -> None:
    pause = PauseDetector(5.0)
    assert pause.grace(due=100.0, now=100.1) == 0.0
    assert pause.grace(due=100.0, now=110.0) == 1.0
