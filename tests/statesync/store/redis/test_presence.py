"""What a replica says of its pods, and how it is read."""

from __future__ import annotations

import pytest

from schedulers.types import Pod, PodId
from statesync.discovery.changes import PodChange
from statesync.store.redis.messages import MessageDecoder, pack
from statesync.store.redis.presence import OwnPods, digest_of, read_pools, together
from statesync.types import KnownPod

A, B, C = (Pod(PodId(f"10.0.0.{at}:8000"), f"10.0.0.{at}:8000") for at in range(1, 4))


def own(**pools: list[Pod]) -> OwnPods:
    pods = OwnPods()
    for pool, members in pools.items():
        pods.change_pods(pool, PodChange(come=tuple(members)))
    return pods


def sent(pods: OwnPods, *, full: bool = False) -> dict[bytes, bytes]:
    """What a server would hold after the fields were set."""
    fields = [each.encode() if isinstance(each, str) else each for each in pods.take(full)]
    return dict(zip(fields[::2], fields[1::2], strict=True))


def test_what_is_sent_is_read_with_the_verdict_of_each_pod() -> None:
    pods = own(chat=[A, B, C])
    pods.probed(A.id, True)
    pods.probed(B.id, False)
    read = read_pools(MessageDecoder(), sent(pods))
    assert {pool: list(members) for pool, members in read.items()} == {"chat": [A.id, B.id, C.id]}
    assert read["chat"] == {A.id: KnownPod(True), B.id: KnownPod(False), C.id: KnownPod()}


def test_each_list_of_models_is_sent_once_and_a_pod_without_one_is_not_one_that_was_not_read() -> None:
    pods = own(chat=[A, B, C])
    page = b"x" * 1000
    pods.listed(A.id, page)
    pods.listed(B.id, page)
    assert read_pools(MessageDecoder(), sent(pods))["chat"][C.id].models is None
    pods.listed(C.id, b"")
    pods.probed(C.id, True)
    fields = sent(pods)
    assert len(fields[b"=chat"]) < 1200
    assert read_pools(MessageDecoder(), fields)["chat"] == {
        A.id: KnownPod(None, page),
        B.id: KnownPod(None, page),
        C.id: KnownPod(True, b""),
    }


def test_only_pools_that_changed_are_sent_again() -> None:
    pods = own(chat=[A], code=[B])
    assert sent(pods).keys() == {b"=chat", b"=code"}
    assert sent(pods) == {}
    pods.probed(B.id, True)
    assert sent(pods).keys() == {b"=code"}
    pods.probed(B.id, True)
    assert sent(pods) == {}
    assert sent(pods, full=True).keys() == {b"=chat", b"=code"}


def test_the_digest_is_that_of_the_pods_and_not_of_their_order_or_health() -> None:
    left, right = own(chat=[A, B], code=[C]), own(code=[C], chat=[B, A])
    right.probed(A.id, False)
    assert left.digest() == right.digest() == digest_of({"chat": [B.id, A.id], "code": [C.id], "empty": []})
    before = left.digest()
    left.change_pods("chat", PodChange(gone=(A.id,)))
    assert left.digest() not in (before, None, 0)
    left.change_pods("chat", PodChange(come=(A,)))
    assert left.digest() == before
    assert own(chat=[A]).digest() != own(code=[A]).digest()


def test_a_replica_without_pools_says_nothing_and_one_without_pods_says_so() -> None:
    nothing = OwnPods()
    assert nothing.digest() is None
    assert nothing.may_have(A.id)
    empty = own(chat=[])
    assert empty.digest() == 0
    assert not empty.may_have(A.id)


def test_a_pod_that_left_has_no_verdict() -> None:
    pods = own(chat=[A, B])
    pods.probed(A.id, True)
    pods.change_pods("chat", PodChange(gone=(A.id, C.id)))
    pods.probed(A.id, True)
    pods.listed(A.id, b"page")
    assert pods.pools == {"chat": {B.id: KnownPod()}}
    assert not pods.may_have(A.id)


def test_a_pod_is_well_if_any_replica_says_so_and_has_the_list_that_any_has_read() -> None:
    replicas = [own(chat=[A, B, C]) for _ in range(3)]
    for at, pods in enumerate(replicas):
        pods.probed(A.id, at == 1)
        pods.probed(B.id, False)
    replicas[2].listed(C.id, b"page")
    assert together([pods.pools for pods in replicas]) == {
        A.id: KnownPod(True),
        B.id: KnownPod(False),
        C.id: KnownPod(None, b"page"),
    }


@pytest.mark.parametrize(
    "fields",
    [
        {b"=chat": b"\xc1"},
        {b"=chat": pack("text")},
        {b"@": b"a later version's", b"\xff": pack([1, ["a"], b"w"])},
        {b"=chat": pack([1, "pods", b"w"])},
    ],
)
def test_what_cannot_be_read_is_left_out(fields: dict[bytes, bytes]) -> None:
    assert read_pools(MessageDecoder(), fields) == {}


def test_fields_of_later_versions_are_ignored_and_missing_states_are_unknown() -> None:
    read = read_pools(MessageDecoder(), {b"=chat": pack([1, [A.id, B.id], b"w", [], [], {"more": 1}])})
    assert read["chat"] == {A.id: KnownPod(True), B.id: KnownPod()}
    numbers = read_pools(MessageDecoder(), {b"=chat": pack([1, [A.id, B.id, C.id], b"w", [b"page"], [2, 9, -1]])})
    assert [each.models for each in numbers["chat"].values()] == [b"page", None, None]
