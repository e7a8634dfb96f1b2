"""The load view, call by call: which pods may be picked, what is in flight. All calls mixed: `test_view_model.py`."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count

import pytest

from schedulers.ttft import ANSWER_TOKENS, KV_FULL, admission_s, outlook, prefill_work, start_in
from schedulers.types import Adapters, LoadSnapshot, Pod, PodId, Promised, RequestInfo, Slo
from statesync.errors import NoRoutablePod, PoolSaturated, StateError, UnknownPod, UnknownPool
from statesync.load.pod_state import Charge
from statesync.load.pool_state import TTFT_ALPHA
from statesync.load.view import PREDICTED, LoadView
from statesync.types import EngineReport, InflightNumbers
from tests.fakes.virtual_time import Clock


def pod(name: str, max_inflight: int | None = None) -> Pod:
    return Pod(PodId(name), f"{name}:8000", max_inflight=max_inflight)


A, B, C = pod("a"), pod("b"), pod("c")


def asking(prompt: int = 300, answer: int = 100, hits: dict[PodId, int] | None = None) -> RequestInfo:
    return RequestInfo("r", "m", prompt, answer, 0.0, 0, 0, prefix_hits=hits or {})


def view_of(*pods: Pod) -> LoadView:
    ticks = count(1)
    view = LoadView(lambda: float(next(ticks)))
    view.set_pods("default", pods)
    return view


def names(snapshot: LoadSnapshot) -> set[str]:
    return {candidate.pod.id for candidate in snapshot.candidates}


# Membership


def test_set_pods_returns_what_came_and_went_and_is_idempotent() -> None:
    view = view_of()
    assert view.set_pods("default", [A, B]) == ((A, B), ())
    assert view.set_pods("default", [B, A]) == ((), ())
    assert view.set_pods("default", [B, C, C]) == ((C,), (A,))
    assert names(view.snapshot("default")) == {"b", "c"}


def test_setting_the_same_pods_again_changes_neither_snapshot_nor_generation() -> None:
    view = view_of(A, B)
    before = view.snapshot("default")
    view.set_pods("default", [A, B])
    assert view.snapshot("default") is before
    assert view.generation("default") == before.generation


def test_a_kept_pod_keeps_its_numbers_while_its_description_changes() -> None:
    view = view_of(A)
    view.reserve(A.id, asking())
    before = view.snapshot("default")
    renamed = A._replace(address="elsewhere:8000")
    assert view.set_pods("default", [renamed]) == ((), ())
    after = view.snapshot("default")
    assert after.candidates[0].pod == renamed
    assert after.candidates[0].load.inflight == 1
    assert after.generation != before.generation


def test_a_pod_in_two_pools_is_an_error_that_names_both_and_changes_nothing() -> None:
    view = view_of(A)
    with pytest.raises(StateError, match="'a' is in pool 'default' and cannot be in 'other'"):
        view.set_pods("other", [B, A])
    assert view.pools() == ["default"]
    with pytest.raises(UnknownPod):
        view.pod(B.id)


def test_a_pod_may_move_to_another_pool_with_its_open_requests() -> None:
    view = view_of(A)
    charge = view.reserve(A.id, asking())
    view.set_pods("default", [])
    view.set_pods("other", [A])
    assert view.pool_of(A.id) == "other"
    assert view.status(A.id).load.inflight == 1
    view.release(charge)
    assert view.status(A.id).load.inflight == 0


def test_a_removed_pod_gets_no_new_request_and_releases_cleanly() -> None:
    view = view_of(A, B)
    charge = view.reserve(A.id, asking())
    view.set_pods("default", [B])
    with pytest.raises(UnknownPod):
        view.reserve(A.id, asking())
    assert view.inflight == 1
    view.prefill_done(charge)
    view.release(charge)
    assert view.inflight == 0


def test_a_pod_that_comes_back_gets_its_open_requests_back_and_nothing_else() -> None:
    view = view_of(A, B)
    charge = view.reserve(A.id, asking())
    view.report(A.id, EngineReport(queued=9))
    view.observe_ttft(A.id, 3.0)
    view.block(A.id, "probe")
    view.set_pods("default", [B])
    view.report(A.id, EngineReport(queued=8))
    view.observe_ttft(A.id, 3.0)
    view.unblock(A.id, "probe")
    view.set_pods("default", [A, B])
    status = view.status(A.id)
    assert (status.load.inflight, status.load.queued, status.load.ttft_ewma_s) == (1, 0, 0.0)
    assert status.routable
    view.release(charge)
    assert view.status(A.id).load.inflight == 0


def test_reads_of_unknown_pods_and_pools_raise() -> None:
    view = view_of(A)
    reads: list[Callable[[], object]] = [
        lambda: view.pod(B.id),
        lambda: view.pool_of(B.id),
        lambda: view.status(B.id),
        lambda: view.block(B.id, "probe"),
        lambda: view.reserve(B.id, asking()),
    ]
    for read in reads:
        with pytest.raises(UnknownPod, match="'b'"):
            read()
    pool_reads: list[Callable[[], object]] = [
        lambda: view.snapshot("x"),
        lambda: view.generation("x"),
        lambda: view.statuses("x"),
    ]
    for read in pool_reads:
        with pytest.raises(UnknownPool, match="'x'"):
            read()
    view.unblock(B.id, "probe")


# Snapshots


def test_an_empty_pool_exists_and_has_no_routable_pod() -> None:
    with pytest.raises(NoRoutablePod, match="has 0 pods"):
        view_of().snapshot("default")


def test_a_pod_is_out_until_every_blocker_is_lifted() -> None:
    view = view_of(A, B)
    view.block(A.id, "probe")
    view.block(A.id, "ejected")
    view.block(A.id, "probe")
    assert names(view.snapshot("default")) == {"b"}
    assert view.status(A.id).blockers == ("ejected", "probe")
    assert not view.status(A.id).routable
    view.unblock(A.id, "probe")
    view.unblock(A.id, "never")
    assert names(view.snapshot("default")) == {"b"}
    view.unblock(A.id, "ejected")
    assert names(view.snapshot("default")) == {"a", "b"}


def test_a_pod_that_comes_unready_is_a_member_but_no_candidate_until_it_is_described_as_ready() -> None:
    view = view_of(pod("a"), pod("b")._replace(unready="not_ready"))
    assert names(view.snapshot("default")) == {"a"}
    assert view.status(PodId("b")).blockers == ("not_ready",)
    view.block(PodId("b"), "draining")
    view.set_pods("default", [pod("a"), pod("b")])
    assert view.status(PodId("b")).blockers == ("draining",)
    view.unblock(PodId("b"), "draining")
    assert names(view.snapshot("default")) == {"a", "b"}


def test_all_pods_blocked_is_no_routable_pod_and_all_full_is_saturated() -> None:
    view = view_of(pod("a", 1), B)
    view.block(B.id, "probe")
    charge = view.reserve(A.id, asking())
    with pytest.raises(PoolSaturated, match="'default'"):
        view.snapshot("default")
    view.block(A.id, "probe")
    with pytest.raises(NoRoutablePod, match="has 2 pods"):
        view.snapshot("default")
    view.unblock(A.id, "probe")
    view.release(charge)
    assert names(view.snapshot("default")) == {"a"}


def test_max_inflight_counts_other_replicas_requests_too_and_follows_discovery() -> None:
    view = view_of(pod("a", 3), B)
    view.set_remote("other", {A.id: InflightNumbers(2, 20, 0)})
    view.reserve(A.id, asking())
    assert names(view.snapshot("default")) == {"b"}
    view.set_pods("default", [pod("a", 4), B])
    assert names(view.snapshot("default")) == {"a", "b"}
    view.set_pods("default", [pod("a", 2), B])
    assert names(view.snapshot("default")) == {"b"}


# Charges


@pytest.mark.parametrize(
    ("request_", "tokens", "prefill"),
    [
        (asking(300, 100), 400, 300),
        (asking(300, 0), 300 + ANSWER_TOKENS, 300),
        (asking(300, 100, {A.id: 2, B.id: 4}), 400, 300 - 2 * 64 - 32),
        (asking(300, 100, {A.id: 99}), 400, 0),
    ],
)
def test_a_reservation_counts_tokens_and_the_uncached_part_of_the_prompt(
    request_: RequestInfo, tokens: int, prefill: int
) -> None:
    view = view_of(A)
    view.reserve(A.id, request_)
    load = view.snapshot("default").candidates[0].load
    assert (load.inflight, load.inflight_tokens, load.pending_prefill_tokens) == (1, tokens, prefill)


def test_prefill_and_the_rest_are_given_back_once_each() -> None:
    view = view_of(A)
    first, second = view.reserve(A.id, asking(300, 100)), view.reserve(A.id, asking(50, 10))
    assert repr(first) == "<Charge open on a: 400 tokens, 300 to prefill>"
    for _ in range(2):
        view.prefill_done(first)
        assert view.status(A.id).load.pending_prefill_tokens == 50
    for _ in range(2):
        view.release(first)
        view.prefill_done(first)
        assert view.status(A.id).load[3:6] == (1, 60, 50)
    view.release(second)
    assert view.status(A.id).load[3:6] == (0, 0, 0)
    assert repr(second) == "<Charge released on a: 0 tokens, 0 to prefill>"


def test_every_change_of_this_replica_s_numbers_is_announced_in_absolute_terms() -> None:
    announced: list[tuple[PodId, InflightNumbers]] = []
    view = LoadView(lambda: 0.0, lambda pod_id, numbers: announced.append((pod_id, numbers)))
    view.set_pods("default", [A])
    view.set_remote("other", {A.id: InflightNumbers(5, 5, 5)})
    charge = view.reserve(A.id, asking(300, 100))
    other = view.reserve(A.id, asking(10, 10))
    view.prefill_done(charge)
    view.release(charge)
    view.release(charge)
    view.set_pods("default", [])
    view.release(other)
    loads = [(1, 400, 300), (2, 420, 310), (2, 420, 10), (1, 20, 10), (0, 0, 0), (0, 0, 0)]
    assert [numbers[:3] for _, numbers in announced] == loads
    assert [numbers.dispatched for _, numbers in announced] == [1, 2, 2, 2, 2, 0], "a pod that left is forgotten"


# Headroom


def test_as_many_pods_can_be_picked_as_the_snapshot_has() -> None:
    view = view_of(A, pod("full", max_inflight=1), pod("ill"))
    view.reserve(PodId("full"), asking())
    view.block(PodId("ill"), "health")
    assert view.pickable("default") == len(view.snapshot("default").candidates) == 1
    view.block(A.id, "health")
    assert view.pickable("default") == 0
    with pytest.raises(UnknownPool):
        view.pickable("other")


def test_headroom_is_reported_when_a_full_pod_has_room_again() -> None:
    view, received = view_of(pod("a", 1)), list[str]()
    view.on_headroom = received.append
    charge = view.reserve(A.id, asking())
    assert received == []
    view.release(charge)
    assert received == ["default"]


def test_headroom_is_reported_when_a_pod_is_unblocked_new_or_has_a_higher_limit() -> None:
    view, received = view_of(pod("a", 1)), list[str]()
    view.on_headroom = received.append
    view.block(A.id, "probe")
    view.unblock(A.id, "probe")
    view.reserve(A.id, asking())
    view.set_pods("default", [pod("a", 2)])
    view.set_pods("default", [pod("a", 2), B, C])
    assert received == ["default"] * 3
    view.set_pods("default", [pod("a", 2)])
    assert received == ["default"] * 3


def test_headroom_is_reported_when_another_replica_frees_room() -> None:
    view, received = view_of(pod("a", 2)), list[str]()
    view.on_headroom = received.append
    view.set_remote("other", {A.id: InflightNumbers(2, 2, 2)})
    view.set_remote("other", {A.id: InflightNumbers(1, 2, 2)})
    view.set_remote("other", {A.id: InflightNumbers(2, 2, 2)})
    view.drop_remote("other")
    assert received == ["default"] * 2


def test_a_waiting_request_may_reserve_from_inside_the_callback() -> None:
    view = view_of(pod("a", 1))
    waiting, went = [asking(), asking()], list[Charge]()

    def reserve_next(pool: str) -> None:
        while waiting:
            try:
                target = view.snapshot(pool).candidates[0].pod.id
            except PoolSaturated:
                return
            went.append(view.reserve(target, waiting.pop()))

    charge = view.reserve(A.id, asking())
    view.on_headroom = reserve_next
    view.release(charge)
    assert (len(went), len(waiting), view.inflight) == (1, 1, 1)
    view.release(went[0])
    assert (len(went), len(waiting), view.inflight) == (2, 0, 1)


# Reports and shares


def test_an_engine_s_report_replaces_only_the_fields_it_has() -> None:
    view = view_of(A)
    view.report(A.id, EngineReport(queued=3, running=7, kv_usage=0.5))
    view.report(A.id, EngineReport(queued=4))
    load = view.snapshot("default").candidates[0].load
    assert (load.queued, load.running, load.kv_usage) == (4, 7, 0.5)
    assert load.reported_at == 3.0


def test_the_adapters_an_engine_reports_stay_until_it_reports_others() -> None:
    view = view_of(A)
    sql, chat = Adapters(frozenset({"sql"}), limit=2), Adapters(frozenset({"chat"}), limit=2)
    view.report(A.id, EngineReport(adapters=sql))
    view.report(A.id, EngineReport(queued=4))
    assert view.snapshot("default").candidates[0].load.adapters == sql
    view.report(A.id, EngineReport(adapters=chat))
    assert view.snapshot("default").candidates[0].load.adapters == chat


def test_every_snapshot_has_the_gateways_labels() -> None:
    view = LoadView(lambda: 1.0, home={"zone": "a"})
    view.set_pods("default", [A])
    assert view.snapshot("default").home == {"zone": "a"}
    assert view_of(A).snapshot("default").home == {}


def test_ttft_starts_at_the_first_value_and_then_follows_slowly() -> None:
    view = view_of(A)
    view.observe_ttft(A.id, 1.0)
    view.observe_ttft(A.id, 2.0)
    assert view.snapshot("default").candidates[0].load.ttft_ewma_s == pytest.approx(1.0 + TTFT_ALPHA)


def test_a_first_token_is_predicted_at_one_in_four_dispatches_by_the_last_snapshot() -> None:
    clock = Clock(100.0)
    view = LoadView(clock)
    view.set_pods("default", [A])
    work = prefill_work(24_000, 0)
    for at in range(3 * PREDICTED):
        load = view.snapshot("default").candidates[0].load
        charge = view.reserve(A.id, asking(24_000, 1))
        if at % PREDICTED:
            assert charge.expected_s == 0.0
        else:
            due, least = outlook(load.prefilling, load.prefill_work, load.head_since, load.pace_s, load.step_s)
            assert charge.expected_s == pytest.approx(start_in(due, least, clock.now) + work * load.pace_s)
        clock.now += 3.0 if at == 2 * PREDICTED - 1 else 0.01
    assert charge.expected_s == 0.0 and load.head_since == 100.0


def test_no_first_token_is_predicted_where_no_snapshot_shows_the_pods_load() -> None:
    view = view_of(A)
    assert view.reserve(A.id, asking()).expected_s == 0.0


def test_found_times_are_compared_with_the_predicted_ones() -> None:
    view = view_of(A)
    view.observe_ttft(A.id, 2.0, expected_s=1.0)
    assert (view.status(A.id).expected_ttft_s, view.status(A.id).ttft_error) == (1.0, 0.5)
    view.observe_ttft(A.id, 1.0, expected_s=2.0)
    assert view.status(A.id).expected_ttft_s == pytest.approx(1.0 + TTFT_ALPHA)
    assert view.status(A.id).ttft_error == pytest.approx(0.5 + TTFT_ALPHA / 2)
    view.observe_ttft(A.id, 5.0)
    assert view.status(A.id).ttft_error == pytest.approx(0.5 + TTFT_ALPHA / 2), "nothing was expected"


def test_a_wait_for_kv_blocks_is_part_of_what_is_expected() -> None:
    expected = []
    for capacity in (1_000_000, 9000):
        view = LoadView(lambda: 100.0)
        view.set_pods("default", [A])
        view.report(A.id, EngineReport(kv_capacity_tokens=capacity))
        view.snapshot("default")
        expected.append(view.reserve(A.id, asking(8000, 1000)).expected_s)
    assert expected[1] == pytest.approx(expected[0] + admission_s(0, 9000 * KV_FULL, 9000, 0.0))


def test_shares_are_absolute_and_an_absent_pod_did_not_change() -> None:
    view = view_of(A, B)
    view.reserve(A.id, asking(300, 100))
    view.set_remote("x", {A.id: InflightNumbers(2, 20, 10), B.id: InflightNumbers(1, 5, 0)})
    view.set_remote("y", {A.id: InflightNumbers(1, 7, 7)})
    view.set_remote("x", {A.id: InflightNumbers(3, 30, -5)})
    loads = {candidate.pod.id: candidate.load for candidate in view.snapshot("default").candidates}
    assert loads[A.id][3:6] == (1 + 3 + 1, 400 + 30 + 7, 300 + 0 + 7)
    assert loads[B.id][3:6] == (1, 5, 0)
    assert view.inflight == 1
    view.drop_remote("x")
    view.drop_remote("unknown")
    assert view.status(A.id).load[3:6] == (2, 407, 307)
    assert view.status(B.id).load[3:6] == (0, 0, 0)


def test_a_share_that_went_to_zero_starts_from_zero() -> None:
    view = view_of(A)
    for requests in (5, 0, 2):
        view.set_remote("x", {A.id: InflightNumbers(requests, requests, requests)})
        assert view.status(A.id).load[3:6] == (requests, requests, requests)


def test_a_share_of_an_unknown_pod_waits_for_it() -> None:
    view = view_of(A)
    view.set_remote("x", {B.id: InflightNumbers(2, 20, 10)})
    view.set_remote("y", {B.id: InflightNumbers(1, 1, 1)})
    view.drop_remote("y")
    view.set_pods("default", [A, B])
    assert view.status(B.id).load[3:6] == (2, 20, 10)


def test_a_replica_that_restarts_replaces_all_its_numbers() -> None:
    view = view_of(A, B)
    view.set_remote("x", {A.id: InflightNumbers(2, 20, 10), B.id: InflightNumbers(1, 5, 0)})
    view.drop_remote("x")
    view.set_remote("x", {B.id: InflightNumbers(3, 30, 3)})
    assert view.status(A.id).load[3:6] == (0, 0, 0)
    assert view.status(B.id).load[3:6] == (3, 30, 3)


def test_a_report_has_the_given_age_and_an_older_one_is_skipped() -> None:
    view = LoadView(lambda: 100.0)
    view.set_pods("default", [A])
    view.report(A.id, EngineReport(queued=3), 2.5)
    view.report(A.id, EngineReport(queued=9), 4.0)
    load = view.status(A.id).load
    assert (load.queued, load.reported_at) == (3, 97.5)
    view.report(A.id, EngineReport(queued=1))
    assert view.status(A.id).load.reported_at == 100.0


def test_a_status_has_this_replica_s_part_of_the_requests_in_flight() -> None:
    view = view_of(A)
    view.reserve(A.id, asking())
    view.set_remote("x", {A.id: InflightNumbers(2, 20, 10)})
    assert (view.status(A.id).load.inflight, view.status(A.id).own_inflight) == (3, 1)


# Requests that the view has not seen yet


class Times:
    """A view of the pods A (pool `p`) and B (pool `q`); only the test moves its clock and age."""

    def __init__(self, age_s: float = 0.1) -> None:
        self.clock = Clock()
        self.age_s = age_s
        self.view = LoadView(self.clock, None, lambda: self.age_s)
        self.view.set_pods("p", [A])
        self.view.set_pods("q", [B])
        self.sent = dict.fromkeys("xy", 0)

    def unseen(self) -> float:
        """The unseen requests of the pool `p`."""
        return self.view.unseen_by_pool()["p"]

    def dispatch(self, replica: str, more: int, after_s: float) -> None:
        """A replica sent `more` requests to A, and all of them have ended."""
        self.clock.now += after_s
        self.sent[replica] += more
        self.view.set_remote(replica, {A.id: InflightNumbers(dispatched=self.sent[replica])})

    def send_steadily(self, replica: str, per_s: int, seconds: int) -> None:
        """The replica sends requests at this rate."""
        for _ in range(100 * seconds):
            self.dispatch(replica, per_s // 100, 0.01)


def test_unseen_is_the_others_rate_times_the_view_s_age_by_pool() -> None:
    times = Times(age_s=0.002)
    times.send_steadily("x", 500, 5)
    assert times.unseen() == pytest.approx(500 * 0.002, rel=0.02)
    assert times.view.snapshot("p").unseen == pytest.approx(1.0, rel=0.02)
    assert times.view.snapshot("q").unseen == 0.0


def test_the_first_numbers_of_a_replica_are_not_a_burst() -> None:
    times = Times()
    times.dispatch("x", 1_000_000, 0.0)
    assert times.unseen() == 0.0
    times.view.drop_remote("x")
    times.dispatch("x", 1_000_000, 0.01)
    assert times.unseen() == 0.0


def test_numbers_read_after_a_gap_count_as_sent_evenly() -> None:
    times = Times(age_s=1.0)
    times.dispatch("x", 1, 0.0)
    times.dispatch("x", 100 * 60, 60.0)
    assert times.unseen() == pytest.approx(100, rel=0.01)


def test_unseen_falls_soon_when_a_replica_stops_sending_and_at_once_when_it_is_gone() -> None:
    times = Times()
    times.send_steadily("x", 100, 5)
    times.send_steadily("y", 300, 5)
    assert times.unseen() == pytest.approx(30, rel=0.02), "x has sent nothing since"
    times.send_steadily("x", 100, 1)
    times.view.drop_remote("y")
    assert times.unseen() == pytest.approx(100 * 0.1, rel=0.2)
    times.view.drop_remote("x")
    assert times.unseen() == 0.0


def test_while_nothing_arrives_the_others_are_expected_to_keep_sending() -> None:
    times = Times(age_s=0.0)
    times.send_steadily("x", 100, 5)
    times.clock.now += 3.0
    times.age_s = 3.0
    assert times.unseen() == pytest.approx(300, rel=0.02)


def test_requests_counted_before_a_pod_is_known_here_are_not_a_burst() -> None:
    times = Times()
    times.view.set_remote("x", {C.id: InflightNumbers(1, 1, 1, 1000)})
    times.clock.now += 1.0
    times.view.set_remote("x", {C.id: InflightNumbers(dispatched=1001)})
    times.view.set_pods("p", [A, C])
    times.clock.now += 1.0
    times.view.set_remote("x", {C.id: InflightNumbers(1, 1, 1, 5000)})
    assert times.unseen() == 0.0


def test_statuses_list_one_pool_or_all() -> None:
    view = view_of(A, B)
    view.set_pods("other", [C])
    view.set_pods("empty", [])
    assert [status.pod.id for status in view.statuses()] == ["a", "b", "c"]
    assert [(status.pod, status.pool) for status in view.statuses("other")] == [(C, "other")]
    assert view.statuses("empty") == []
    assert view.pools() == ["default", "other", "empty"]
    assert view.pod(C.id) == C


def test_repr_counts_what_a_view_holds_and_nothing_stays_of_a_pod_whose_last_request_ended() -> None:
    view = view_of(A, B)
    charge = view.reserve(A.id, asking())
    view.block(A.id, "probe")
    idle = "0 pods gone with requests open; 0 other replicas>"
    assert repr(view) == f"<LoadView default 1/2; 1 in flight; {idle}"
    view.set_pods("default", [])
    view.set_remote("x", {})
    assert repr(view) == "<LoadView default 0/0; 1 in flight; 1 pods gone with requests open; 1 other replicas>"
    view.release(charge)
    view.drop_remote("x")
    assert repr(view) == f"<LoadView default 0/0; 0 in flight; {idle}"


# Promises


def promised(view: LoadView, of: Pod) -> Promised:
    return view.status(of.id).load.promised


def test_a_pods_load_shows_what_its_requests_were_promised_until_they_end() -> None:
    view = view_of(A, B)
    tight = asking()._replace(slo=Slo(1.0, 0.25), priority=1)
    charges = [view.reserve(A.id, tight) for _ in range(2)]
    for charge in charges:
        view.promise(charge, tight)
    view.reserve(A.id, asking())
    assert promised(view, A) == ((0.25, 4.0),)
    assert promised(view, B) == ()
    view.release(charges[0])
    view.release(charges[0])
    assert promised(view, A) == ((0.25, 2.0),)
    view.set_pods("default", [B])
    view.release(charges[1])
    view.set_pods("default", [A, B])
    assert promised(view, A) == ()


def test_promises_of_a_pod_are_scaled_to_the_requests_of_all_replicas() -> None:
    view = view_of(A)
    tight = asking()._replace(slo=Slo(0.0, 0.25))
    view.promise(view.reserve(A.id, tight), tight)
    view.set_remote("other", {A.id: InflightNumbers(3, 300, 0, 3)})
    assert promised(view, A) == ((0.25, 4.0),)
