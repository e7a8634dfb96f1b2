"""Probes and outcomes come in, blocks and unblocks go out. Time is a number."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schedulers.types import PodId
from statesync.engines.health import HealthTracker, Outcome, Reason
from statesync.settings import Health
from tests.fakes.examples import examples
from tests.fakes.whole_pools import set_ids

A, B, C, D = (PodId(name) for name in "abcd")
OK, FAILURE, BUSY = Outcome


class Changes:
    """The tracker's listener: keeps each change and the blocked pods."""

    def __init__(self) -> None:
        self.log: list[tuple[PodId, Reason, bool]] = []
        self.blocked: dict[PodId, set[Reason]] = {}

    def __call__(self, pod: PodId, reason: Reason, blocked: bool) -> None:
        self.log.append((pod, reason, blocked))
        reasons = self.blocked.setdefault(pod, set())
        assert (reason in reasons) is not blocked, "the same change twice"
        (reasons.add if blocked else reasons.remove)(reason)


def tracker_of(*pods: PodId, config: Health | None = None, rng: float = 0.0) -> tuple[HealthTracker, Changes]:
    changes = Changes()
    tracker = HealthTracker(config or Health(), changes, rng=lambda: rng)
    set_ids(tracker, "pool", pods)
    for pod in pods:
        tracker.probe(pod, True, 0.0)
    return tracker, changes


def fail(tracker: HealthTracker, pod: PodId, times: int, now: float = 0.0) -> None:
    for _ in range(times):
        tracker.outcome(pod, FAILURE, now)


def test_consecutive_failed_probes_take_a_pod_out_and_good_ones_bring_it_back() -> None:
    tracker, changes = tracker_of(A, B, config=Health(failures=2, successes=2))
    for ok in (False, True, False, False):
        tracker.probe(A, ok, 1.0)
    assert changes.log == [(A, "probe", True)]
    for ok in (True, False, True):
        tracker.probe(A, ok, 2.0)
    assert len(changes.log) == 1
    tracker.probe(A, True, 3.0)
    assert changes.log[1:] == [(A, "probe", False)]


def test_a_pod_that_never_answered_is_out_after_one_failed_probe() -> None:
    changes = Changes()
    tracker = HealthTracker(Health(), changes)
    set_ids(tracker, "pool", [A, B])
    tracker.outcome(B, OK, 0.0)
    tracker.probe(A, False, 0.0)
    tracker.probe(B, False, 0.0)
    assert changes.log == [(A, "probe", True)]


def test_consecutive_failed_requests_eject_and_a_success_between_them_resets_the_count() -> None:
    tracker, changes = tracker_of(A, B)
    fail(tracker, A, 2)
    tracker.outcome(A, OK, 0.0)
    fail(tracker, A, 2)
    assert changes.log == []
    fail(tracker, A, 1)
    assert changes.log == [(A, "ejected", True)]
    assert tracker.blocked_total == {"probe": 0, "ejected": 1}


def test_busy_answers_are_load_and_change_nothing() -> None:
    tracker, changes = tracker_of(A, B)
    for _ in range(10):
        tracker.outcome(A, BUSY, 0.0)
    assert changes.log == []
    fail(tracker, A, 2)
    tracker.outcome(A, BUSY, 0.0)
    fail(tracker, A, 1)
    assert changes.log == [(A, "ejected", True)]


def test_each_ejection_in_a_row_lasts_twice_as_long_up_to_the_longest() -> None:
    tracker, _ = tracker_of(A, B)
    now, took = 0.0, []
    fail(tracker, A, 3, now)
    for _ in range(7):
        due = tracker.next_due()
        assert due is not None
        took.append(due - now)
        now = due
        tracker.due(now - 0.001)
        assert tracker.blockers(A) == {"ejected"}
        tracker.due(now)
        assert not tracker.blockers(A)
        fail(tracker, A, 1, now)  # on trial: one failure is enough
    assert took == [5, 10, 20, 40, 80, 120, 120]


def test_random_bits_shorten_an_ejection_by_up_to_a_fifth() -> None:
    tracker, _ = tracker_of(A, B, rng=0.5)
    fail(tracker, A, 3)
    assert tracker.next_due() == pytest.approx(4.5)


def test_a_pod_on_trial_is_trusted_again_after_as_many_successes_as_failures_ejected_it() -> None:
    tracker, changes = tracker_of(A, B)
    fail(tracker, A, 3)
    tracker.due(5.0)
    for _ in range(3):
        tracker.outcome(A, OK, 6.0)
    fail(tracker, A, 2, 7.0)
    assert not tracker.blockers(A)
    fail(tracker, A, 1, 7.0)
    assert tracker.next_due() == 12.0  # 5 s again, not 10
    assert [blocked for _, _, blocked in changes.log] == [True, False, True]


def test_one_success_on_trial_does_not_end_it() -> None:
    tracker, _ = tracker_of(A, B)
    fail(tracker, A, 3)
    tracker.due(5.0)
    tracker.outcome(A, OK, 5.0)
    fail(tracker, A, 1, 5.0)
    assert tracker.next_due() == 15.0


def test_failures_that_come_in_while_ejected_change_nothing() -> None:
    tracker, _ = tracker_of(A, B)
    fail(tracker, A, 20)
    assert tracker.next_due() == 5.0
    assert tracker.blocked_total["ejected"] == 1


def test_a_good_probe_does_not_end_an_ejection_early() -> None:
    tracker, _ = tracker_of(A, B)
    fail(tracker, A, 3)
    tracker.probe(A, True, 4.9)
    assert tracker.blockers(A) == {"ejected"}
    tracker.probe(B, True, 5.0)  # the time of any probe ends due ejections
    assert not tracker.blockers(A)


def test_a_pod_alone_in_its_pool_is_never_blocked() -> None:
    for ratio in (0.5, 1.0):
        tracker, changes = tracker_of(A, config=Health(max_ejected_ratio=ratio))
        fail(tracker, A, 10)
        for _ in range(10):
            tracker.probe(A, False, 0.0)
        assert changes.log == []


def test_when_all_fail_at_once_half_of_the_pool_stays() -> None:
    tracker, changes = tracker_of(A, B, C, D)
    for _ in range(3):
        for pod in (A, B, C, D):
            tracker.probe(pod, False, 0.0)
    assert {pod for pod, _, _ in changes.log} == {A, B}
    assert tracker.spared_total > 0


def test_a_pod_the_cap_protected_is_blocked_by_its_next_failure_once_there_is_room() -> None:
    tracker, changes = tracker_of(A, B)
    for _ in range(2):
        tracker.probe(A, False, 0.0)
    fail(tracker, B, 3)
    assert changes.blocked == {A: {"probe"}}
    tracker.probe(A, True, 1.0)
    fail(tracker, B, 1, 1.0)
    assert tracker.blockers(B) == {"ejected"}


def test_both_reasons_may_block_a_pod_and_both_must_be_lifted() -> None:
    tracker, changes = tracker_of(A, B)
    fail(tracker, A, 3)
    for _ in range(2):
        tracker.probe(A, False, 0.0)
    tracker.probe(A, True, 1.0)
    assert tracker.blockers(A) == {"ejected"}
    tracker.due(5.0)
    assert changes.blocked[A] == set()


def test_a_pool_that_shrinks_unblocks_ejected_pods_before_those_that_fail_probes() -> None:
    tracker, _ = tracker_of(A, B, C, D)
    for _ in range(2):
        tracker.probe(A, False, 0.0)
    fail(tracker, B, 3)
    set_ids(tracker, "pool", [A, B])
    assert tracker.blockers(A) == {"probe"}
    assert not tracker.blockers(B)
    fail(tracker, B, 1)
    assert not tracker.blockers(B)


def test_a_pod_of_two_pools_needs_room_in_both() -> None:
    changes = Changes()
    tracker = HealthTracker(Health(), changes)
    set_ids(tracker, "one", [A, B])
    set_ids(tracker, "two", [A])
    fail(tracker, A, 5)
    assert changes.log == []
    set_ids(tracker, "two", [A, C])
    fail(tracker, A, 1)
    assert changes.log == [(A, "ejected", True)]
    set_ids(tracker, "two", [A])
    assert not tracker.blockers(A)


def test_a_pod_that_left_is_forgotten_and_late_results_of_it_ignored() -> None:
    tracker, changes = tracker_of(A, B)
    fail(tracker, A, 3)
    set_ids(tracker, "pool", [B, C])
    tracker.probe(A, True, 1.0)
    tracker.outcome(A, FAILURE, 1.0)
    tracker.due(100.0)
    assert tracker.next_due() is None
    assert changes.log == [(A, "ejected", True)]


PODS = [PodId(f"p{number}") for number in range(8)]
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("probe"), st.sampled_from(PODS), st.booleans()),
        st.tuples(st.just("outcome"), st.sampled_from(PODS), st.sampled_from([OK, FAILURE, FAILURE, BUSY])),
        st.tuples(st.just("pods"), st.sampled_from(["one", "two"]), st.sets(st.sampled_from(PODS))),
        st.tuples(st.just("wait"), st.floats(0.0, 30.0), st.none()),
    ),
    max_size=120,
)


@examples(150)
@given(STEPS, st.floats(0.0, 1.0), st.integers(1, 3), st.integers(0, 2**32))
def test_no_history_blocks_more_than_the_cap_or_loses_a_pod(
    steps: list[tuple[str, object, object]], ratio: float, needed: int, seed: int
) -> None:
    changes = Changes()
    config = Health(failures=needed, successes=needed, eject_failures=needed, max_ejected_ratio=ratio)
    tracker = HealthTracker(config, changes, rng=random.Random(seed).random)
    pools: dict[str, set[PodId]] = {"one": set(PODS), "two": set(PODS[:3])}
    for pool, ids in pools.items():
        set_ids(tracker, pool, ids)
    now = 0.0
    for step in steps:
        match step:
            case ("probe", pod, ok):
                tracker.probe(pod, ok, now)  # type: ignore[arg-type]
            case ("outcome", pod, outcome):
                tracker.outcome(pod, outcome, now)  # type: ignore[arg-type]
            case ("pods", str(pool), set(ids)):
                if len(ids) % 2:
                    set_ids(tracker, pool, ids)
                else:
                    tracker.change_pods(pool, ids, pools[pool] - ids)  # also pods that are members already
                pools[pool] = ids
                for pod in changes.blocked.keys() - set().union(*pools.values()):
                    del changes.blocked[pod]
            case ("wait", float(passed), _):
                now += passed
                tracker.due(now)
        for ids in pools.values():
            blocked = sum(1 for pod in ids if changes.blocked.get(pod))
            assert blocked <= len(ids) * ratio + 1e-6
            assert blocked < max(1, len(ids))
        for pod in set().union(*pools.values()):
            assert changes.blocked.get(pod, set()) == tracker.blockers(pod)
    now += config.eject_max_s
    for _ in range(needed):
        for pod in set().union(*pools.values()):
            tracker.probe(pod, True, now)
    assert not any(changes.blocked.values()), "a pod stays blocked for ever"


# Pools with fallback pools


def falling(**fallbacks: list[str]) -> tuple[HealthTracker, Changes]:
    """A tracker of the pools `near` (A, B) and `far` (C, D), with the given fallbacks."""
    changes = Changes()
    tracker = HealthTracker(Health(), changes, rng=lambda: 0.0, fallbacks=fallbacks)
    set_ids(tracker, "near", [A, B])
    set_ids(tracker, "far", [C, D])
    for pod in (A, B, C, D):
        tracker.probe(pod, True, 0.0)
    return tracker, changes


def all_fail(tracker: HealthTracker, *pods: PodId, now: float = 1.0) -> None:
    for _ in range(3):
        for pod in pods:
            tracker.outcome(pod, FAILURE, now)


def test_a_pool_with_a_fallback_may_be_ejected_as_a_whole_and_comes_back() -> None:
    tracker, _ = falling(near=["far"])
    all_fail(tracker, A, B)
    assert tracker.blockers(A) == tracker.blockers(B) == {"ejected"}
    tracker.due(6.5)
    assert not tracker.blockers(A) and not tracker.blockers(B)


def test_of_two_pools_that_fall_back_to_each_other_one_keeps_its_share() -> None:
    tracker, _ = falling(near=["far"], far=["near"])
    all_fail(tracker, A, B, C, D)
    all_fail(tracker, A, B, C, D)
    assert sum(not tracker.blockers(pod) for pod in (A, B, C, D)) == 1


def test_failed_probes_of_every_pod_block_no_more_than_the_cap() -> None:
    tracker, _ = falling(near=["far"])
    for _ in range(5):
        for pod in (A, B):
            tracker.probe(pod, False, 1.0)
    assert sum(not tracker.blockers(pod) for pod in (A, B)) == 1


def test_a_pool_that_is_ejected_as_a_whole_stays_so_when_pods_come_and_go() -> None:
    tracker, _ = falling(near=["far"])
    all_fail(tracker, A, B)
    set_ids(tracker, "near", [A])
    assert tracker.blockers(A) == {"ejected"}


def test_without_a_pod_in_its_fallback_a_pool_keeps_its_share() -> None:
    for fallbacks in ({"near": ["gone"]}, {"near": ["far"]}):
        tracker, _ = falling(**fallbacks)
        set_ids(tracker, "far", [])
        all_fail(tracker, A, B)
        assert sum(not tracker.blockers(pod) for pod in (A, B)) == 1


class Kept(Changes):
    """Keeps, too, which pods only the cap keeps in the rotation, and why."""

    def __init__(self) -> None:
        super().__init__()
        self.kept: list[tuple[PodId, set[Reason]]] = []

    def on_kept(self, pod: PodId, reasons: frozenset[Reason]) -> None:
        self.kept.append((pod, set(reasons)))


def kept_tracker(*pods: PodId) -> tuple[HealthTracker, Kept]:
    changes = Kept()
    tracker = HealthTracker(Health(), changes, rng=lambda: 0.0, on_kept=changes.on_kept)
    set_ids(tracker, "pool", pods)
    for pod in pods:
        tracker.probe(pod, True, 0.0)
    return tracker, changes


@pytest.mark.parametrize("answered_before", [True, False])
def test_an_only_pod_that_fails_its_probes_is_reported_as_kept_once(answered_before: bool) -> None:
    """Case H 37: the last pod is never blocked, and does not look well."""
    tracker, changes = kept_tracker(*([A] if answered_before else []))
    set_ids(tracker, "pool", [A])
    for _ in range(5):
        tracker.probe(A, False, 1.0)
    assert (changes.log, changes.kept) == ([], [(A, {"probe"})])
    assert tracker.kept(A) == {"probe"}
    tracker.probe(A, True, 2.0)
    assert changes.kept[1:] == [(A, set())]


def test_of_two_dead_pods_one_is_blocked_and_one_kept() -> None:
    """Case H 37: both of two pods are dead."""
    tracker, changes = kept_tracker(A, B)
    for pod in (A, B, A, B):
        tracker.probe(pod, False, 1.0)
    assert (changes.log, changes.kept) == ([(A, "probe", True)], [(B, {"probe"})])
    tracker.probe(A, True, 2.0)
    tracker.probe(B, False, 2.0)
    assert changes.blocked == {A: set(), B: {"probe"}}
    assert changes.kept[1:] == [(B, set())], "it is blocked now, which is another state"


def test_a_pod_kept_for_failed_requests_is_well_after_a_good_one() -> None:
    tracker, changes = kept_tracker(A)
    fail(tracker, A, 9)
    tracker.outcome(A, BUSY, 1.0)
    assert changes.kept == [(A, {"ejected"})]
    tracker.outcome(A, OK, 1.0)
    assert changes.kept[1:] == [(A, set())]
    fail(tracker, A, 3)
    assert changes.kept[2:] == [(A, {"ejected"})]


def test_without_requests_a_kept_pod_is_well_when_it_answers_probes_and_the_failures_are_long_ago() -> None:
    tracker, changes = kept_tracker(A)
    fail(tracker, A, 3, 10.0)
    tracker.probe(A, True, 129.0)
    assert tracker.kept(A) == {"ejected"}
    tracker.probe(A, True, 130.0)
    assert changes.kept == [(A, {"ejected"}), (A, set())]


def test_a_pod_that_fails_both_ways_is_kept_for_both_until_both_end() -> None:
    tracker, changes = kept_tracker(A)
    fail(tracker, A, 3)
    tracker.probe(A, False, 1.0)
    tracker.probe(A, False, 2.0)
    tracker.probe(A, True, 3.0)
    tracker.outcome(A, OK, 3.0)
    assert [reasons for _, reasons in changes.kept] == [{"ejected"}, {"ejected", "probe"}, {"ejected"}, set()]


def test_a_blocked_pod_that_a_smaller_pool_takes_back_is_kept() -> None:
    tracker, changes = kept_tracker(A, B)
    tracker.probe(A, False, 1.0)
    tracker.probe(A, False, 1.0)
    set_ids(tracker, "pool", [A])
    assert changes.log == [(A, "probe", True), (A, "probe", False)]
    assert changes.kept == [(A, {"probe"})]
    set_ids(tracker, "pool", [])
    assert tracker.kept(A) == frozenset()


MOVES = st.lists(
    st.tuples(
        st.sampled_from(["bad probe", "good probe", "failure", "success", "leave", "return"]), st.sampled_from("abcd")
    ),
    max_size=60,
)


@given(MOVES)
@examples(200)
def test_a_pod_is_never_blocked_and_kept_at_once_and_every_change_is_reported(moves: list[tuple[str, str]]) -> None:
    tracker, changes = kept_tracker(A, B, C, D)
    here, now = {A, B, C, D}, 0.0
    for what, name in moves:
        pod, now = PodId(name), now + 0.5
        if what in ("bad probe", "good probe"):
            tracker.probe(pod, what == "good probe", now)
        elif what in ("failure", "success"):
            tracker.outcome(pod, FAILURE if what == "failure" else OK, now)
        else:
            here = here - {pod} if what == "leave" else here | {pod}
            set_ids(tracker, "pool", here)
        reported = {kept: reasons for kept, reasons in changes.kept if kept in here}
        for each in here:
            assert not (tracker.blockers(each) and tracker.kept(each))
            if tracker.kept(each):
                assert reported[each] == tracker.kept(each)
