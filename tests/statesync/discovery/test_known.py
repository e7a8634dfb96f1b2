"""How look-up results change the known pods; no network, no clock."""

from __future__ import annotations

import pytest

from schedulers.types import Pod, PodId
from statesync.discovery.known import EMPTY_LOOKS, FLOOR_S, KnownPods, LookupEmpty, LookupFailed, LookupFound


def pod(name: str) -> Pod:
    return Pod(PodId(f"{name}:8000"), f"{name}:8000")


def known(interval_s: float = 10.0, rng: float = 0.0) -> KnownPods:
    return KnownPods(interval_s, lambda: rng)


def test_the_first_answer_is_announced_whole_and_in_order() -> None:
    assert known().after(LookupFound((pod("b"), pod("a")), 30.0)).announce == (pod("a"), pod("b"))


def test_the_same_pods_in_another_order_are_no_change() -> None:
    pods = known()
    pods.after(LookupFound((pod("a"), pod("b")), 30.0))
    assert pods.after(LookupFound((pod("b"), pod("a")), 30.0)).announce is None


def test_a_pod_that_is_missing_from_an_answer_is_removed_at_once() -> None:
    pods = known()
    pods.after(LookupFound((pod("a"), pod("b")), 30.0))
    assert pods.after(LookupFound((pod("a"),), 30.0)).announce == (pod("a"),)


@pytest.mark.parametrize(
    ("ttl_s", "delay_s"), [(3.0, 3.0), (60.0, 10.0), (0.0, FLOOR_S)], ids=["ttl", "interval", "floor"]
)
def test_the_next_look_comes_when_the_answer_is_stale_but_within_the_interval(ttl_s: float, delay_s: float) -> None:
    assert known().after(LookupFound((pod("a"),), ttl_s)).delay_s == delay_s


def test_jitter_only_makes_a_look_later() -> None:
    assert 10.0 < known(rng=0.99).after(LookupFound((), 60.0)).delay_s <= 11.0


def test_failed_looks_keep_the_pods_back_off_and_are_reported_once() -> None:
    pods = known(interval_s=5.0)
    pods.after(LookupFound((pod("a"),), 30.0))
    steps = [pods.after(LookupFailed("SERVFAIL")) for _ in range(5)]
    assert [step.announce for step in steps] == [None] * 5
    assert [step.delay_s for step in steps] == [1.0, 2.0, 4.0, 5.0, 5.0]
    assert [bool(step.note) for step in steps] == [True, False, False, False, False]
    assert pods.after(LookupFound((pod("a"),), 30.0)).note == "answers again"


def test_pods_are_removed_after_three_empty_looks_in_a_row() -> None:
    pods = known()
    pods.after(LookupFound((pod("a"),), 30.0))
    received = [pods.after(LookupEmpty("NXDOMAIN")).announce for _ in range(EMPTY_LOOKS)]
    assert received == [None, None, ()]


def test_one_answer_with_pods_resets_the_count_of_empty_looks() -> None:
    pods = known()
    for _ in range(4):
        pods.after(LookupFound((pod("a"),), 30.0))
        assert pods.after(LookupEmpty("NXDOMAIN")).announce is None
        assert pods.after(LookupEmpty("NXDOMAIN")).announce is None


def test_a_failed_look_between_empty_ones_does_not_save_the_pods() -> None:
    pods = known()
    pods.after(LookupFound((pod("a"),), 30.0))
    pods.after(LookupEmpty("NXDOMAIN"))
    pods.after(LookupFailed("timeout"))
    pods.after(LookupEmpty("NXDOMAIN"))
    assert pods.after(LookupEmpty("NXDOMAIN")).announce == ()


def test_a_name_that_never_had_pods_is_reported_at_once() -> None:
    step = known().after(LookupEmpty("NXDOMAIN"))
    assert step.announce == ()
    assert "NXDOMAIN" in step.note
