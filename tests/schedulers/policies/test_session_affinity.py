from __future__ import annotations

import math
import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schedulers.errors import InvalidParams
from schedulers.policies.least_load import LeastLoad
from schedulers.policies.session_affinity import SessionAffinity
from schedulers.rendezvous import hash32
from schedulers.types import Decision, LoadSnapshot, PodId, PodLoad, RequestInfo
from tests.fakes.chance import five_deviations
from tests.fakes.scheduler_inputs import cases, idle, pod_ids, request_of, snapshot_of, unhurried

POLICY = SessionAffinity()

PINNED = ["10.0.2.13:8000", "10.0.3.114:8000", "10.0.2.90:8000"]


def home(session: str, snapshot: LoadSnapshot, tried: frozenset[PodId] = frozenset()) -> PodId:
    answer = POLICY.pick(request_of(session_key=session, tried=tried), snapshot)
    assert isinstance(answer, Decision)
    return answer.pod


def naive_order(session: str, pods: list[PodId]) -> list[PodId]:
    """The session's order, computed one pod at a time."""
    key = hash32(session) | 1
    return sorted(pods, key=lambda pod: hash32(pod) * key % 2**32, reverse=True)


def test_a_session_stays_for_any_bits_and_turn() -> None:
    picks = {POLICY.pick(request_of(session_key="s", entropy=bits, sequence=bits), idle(50)) for bits in range(100)}
    assert picks == {Decision(naive_order("s", pod_ids(50))[0], "session_affinity", 0.0, "home")}


def test_the_home_of_a_session_is_the_same_in_every_process() -> None:
    # Recorded from one run: replicas agree only if every Python, machine and hash seed gives the same.
    assert [home(session, idle(1000)) for session in ("a", "b", "session-7")] == PINNED


def test_sessions_spread_as_evenly_as_random_draws_would() -> None:
    pods, sessions, snapshot = 50, 20_000, idle(50)
    share = Counter(home(f"conversation-{at}", snapshot) for at in range(sessions))
    mean = sessions / pods
    # The variance of uniform draws is their mean; the measured variance deviates by sqrt(2 / 50) of it, a fifth.
    assert sum((share[pod] - mean) ** 2 for pod in pod_ids(pods)) / pods < 2 * mean
    assert max(share.values()) < mean + five_deviations(sessions, 1 / pods)


def test_removing_a_pod_moves_only_its_own_sessions_and_spreads_them() -> None:
    before, gone = idle(20), pod_ids(20)[7]
    after = snapshot_of({pod: PodLoad() for pod in pod_ids(20) if pod != gone})
    sessions = [f"conversation-{at}" for at in range(6000)]
    moved = [session for session in sessions if home(session, before) != home(session, after)]
    assert moved == [session for session in sessions if home(session, before) == gone]
    assert len({home(session, after) for session in moved}) == 19


def test_a_new_pod_takes_only_its_share() -> None:
    before, after = idle(19), idle(20)
    sessions = [f"conversation-{at}" for at in range(4000)]
    moved = [session for session in sessions if home(session, before) != home(session, after)]
    assert {home(session, after) for session in moved} == {pod_ids(20)[19]}
    assert abs(len(moved) - 200) < five_deviations(4000, 1 / 20)


@unhurried
@given(st.permutations(range(8)), st.sampled_from("abcdefgh"))
def test_the_order_of_the_candidates_does_not_move_a_session(order: list[int], session: str) -> None:
    shuffled = snapshot_of({pod_ids(8)[at]: PodLoad(inflight=1) for at in order})
    assert home(session, shuffled) == home(session, snapshot_of([PodLoad(inflight=1)] * 8))


def test_a_pod_at_its_cap_is_skipped_for_the_next_in_order() -> None:
    first, second, *_ = naive_order("s", pod_ids(4))
    # 8 in flight and this one: the cap is ceil(1.25 * 9 / 4) = 3.
    below = {pod: PodLoad(inflight=2) for pod in pod_ids(4)}
    assert home("s", snapshot_of(below)) == first
    full = {**below, first: PodLoad(inflight=3), second: PodLoad(inflight=1)}
    answer = POLICY.pick(request_of(session_key="s"), snapshot_of(full))
    assert answer == Decision(second, "session_affinity", 1.0, "next_in_order")


def test_a_tried_home_is_skipped_and_the_cap_counts_the_rest() -> None:
    first, second, third = naive_order("s", pod_ids(3))
    snapshot = snapshot_of({first: PodLoad(inflight=90), second: PodLoad(inflight=2), third: PodLoad()})
    assert home("s", snapshot, frozenset({first})) == third
    assert home("s", idle(3), frozenset({first})) == second


@unhurried
@given(cases(max_pods=8), st.sampled_from([1.0, 1.25, 2.0]))
def test_it_is_the_first_in_order_below_the_cap(case: tuple[RequestInfo, LoadSnapshot], factor: float) -> None:
    request, snapshot = case
    left = {pod.id: load.inflight for pod, load in snapshot.candidates if pod.id not in request.tried}
    answer = SessionAffinity(factor).pick(request, snapshot)
    if not left or not request.session_key:
        return
    cap = math.ceil(factor * (sum(left.values()) + 1) / len(left))
    assert isinstance(answer, Decision)
    assert answer.pod == next(pod for pod in naive_order(request.session_key, list(left)) if left[pod] < cap)
    assert answer.score == left[answer.pod] < cap


@pytest.mark.parametrize("factor", [1.0, 1.25, 1.5])
def test_no_pod_ever_holds_more_than_its_bounded_share(factor: float) -> None:
    policy, held = SessionAffinity(factor), dict.fromkeys(pod_ids(7), 0)
    for at in range(500):
        snapshot = snapshot_of({pod: PodLoad(inflight=count) for pod, count in held.items()})
        # Two of three requests are of one conversation.
        answer = policy.pick(request_of(session_key="hot" if at % 3 else f"s{at}"), snapshot)
        assert isinstance(answer, Decision)
        held[answer.pod] += 1
        assert max(held.values()) <= math.ceil(factor * (at + 1) / 7)


@unhurried
@given(cases())
def test_without_a_key_it_picks_as_least_load_does(case: tuple[RequestInfo, LoadSnapshot]) -> None:
    request, snapshot = case
    request = request._replace(session_key="")
    mine, other = POLICY.pick(request, snapshot), LeastLoad().pick(request, snapshot)
    assert mine == (other._replace(policy="session_affinity") if isinstance(other, Decision) else other)


@pytest.mark.parametrize("factor", [0.99, 1001.0, math.nan, math.inf])
def test_a_balance_factor_out_of_range_is_refused(factor: float) -> None:
    with pytest.raises(InvalidParams, match="balance_factor"):
        SessionAffinity(factor)


@unhurried
@given(st.integers(0, 2**32), st.integers(1, 39), st.sampled_from([1.0, 1.25]))
def test_where_nearly_every_pod_is_full_the_first_in_order_with_room_is_found(seed: int, roomy: int, c: float) -> None:
    # More pods than are tried one by one, and few with room: the code path that looks at all of them.
    pods, rng = pod_ids(200), random.Random(seed)
    room = set(rng.sample(pods, roomy))
    loads = {pod: PodLoad(inflight=rng.randrange(4) if pod in room else 12) for pod in pods}
    cap = math.ceil(c * (sum(load.inflight for load in loads.values()) + 1) / len(pods))
    answer = SessionAffinity(c).pick(request_of(session_key=str(seed)), snapshot_of(loads))
    assert isinstance(answer, Decision)
    assert answer.pod == next(pod for pod in naive_order(str(seed), pods) if loads[pod].inflight < cap)
