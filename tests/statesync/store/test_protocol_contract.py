"""The behaviour of every store. A new store is tested with one line in `STORES`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterator, Mapping
from itertools import count

import pytest

from schedulers.types import Pod, PodId
from statesync.discovery.changes import PodChange
from statesync.errors import StaleGeneration, StateError
from statesync.owners import key_of
from statesync.settings import Sync
from statesync.shares import ShareAnswer, ShareAsk, ShareGrant
from statesync.store.open import open_store as open_with
from statesync.store.policy_record import Canary, CanaryGuard, PolicyChoice
from statesync.store.protocol import PolicyRecord, StateStore
from statesync.types import EngineReport, InflightNumbers, KnownPod
from tests.fakes.recording_listener import RecordingListener, eventually
from tests.fakes.redis_replicas import STEADY, A, B, pass_renewal
from tests.fakes.redis_server import RedisServer, redis_server
from tests.fakes.virtual_time import RunningClock, pass_time, run_on

PATIENT = Sync(lease_s=STEADY.lease_s, timeout_s=1e6, checkpoint_s=STEADY.checkpoint_s)
"""A time limit that no answer exceeds, also when a test moves the clock past a lease."""

_fresh = count()


def open_store(url: str) -> StateStore:
    return open_with(url, PATIENT)


# Each makes a URL that two stores can share and that no other test has used.
STORES: dict[str, Callable[[pytest.FixtureRequest], str]] = {
    "memory": lambda _: f"memory://contract-{next(_fresh)}",
    "redis": lambda request: f"redis://127.0.0.1:{request.getfixturevalue('redis').port}/{next(_fresh)}",
}


@pytest.fixture(scope="module")
def redis() -> Iterator[RedisServer]:
    with redis_server("--databases", "1000") as server:
        yield server


@pytest.fixture(params=sorted(STORES))
def url(request: pytest.FixtureRequest) -> str:
    return STORES[request.param](request)


Scene = Callable[[StateStore, RecordingListener, StateStore, RecordingListener], Coroutine[None, None, None]]


def play(url: str, scene: Scene) -> None:
    """Run a scene with two started stores, `left` and `right`, and close them."""

    async def run() -> None:
        left, right, left_listener, right_listener = (
            open_store(url),
            open_store(url),
            RecordingListener(),
            RecordingListener(),
        )
        await left.start("left", left_listener)
        await right.start("right", right_listener)
        try:
            await scene(left, left_listener, right, right_listener)
        finally:
            await left.aclose()
            await right.aclose()

    run_on(RunningClock(), run())


def test_numbers_reach_the_other_replica_and_not_the_sender(url: str) -> None:
    async def scene(
        left: StateStore, left_listener: RecordingListener, right: StateStore, right_listener: RecordingListener
    ) -> None:
        left.announce(A, InflightNumbers(1, 300, 200))
        right.announce(B, InflightNumbers(2, 500, 0))
        await eventually(lambda: "left" in right_listener.inflight and "right" in left_listener.inflight)
        assert right_listener.inflight == {"left": {A: InflightNumbers(1, 300, 200)}}
        assert left_listener.inflight == {"right": {B: InflightNumbers(2, 500, 0)}}

    play(url, scene)


class InflightCalls(RecordingListener):
    """Also keeps each call with numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[str, dict[PodId, InflightNumbers], bool]] = []

    def replica_inflight(self, replica: str, numbers: Mapping[PodId, InflightNumbers], full: bool, /) -> None:
        self.calls.append((replica, dict(numbers), full))
        super().replica_inflight(replica, numbers, full)


def test_a_replica_that_joins_gets_all_numbers_and_then_those_that_change(url: str) -> None:
    async def scene(
        left: StateStore, left_listener: RecordingListener, right: StateStore, right_listener: RecordingListener
    ) -> None:
        one, two = InflightNumbers(1, 300, 200, 1), InflightNumbers(2, 500, 0, 2)
        left.announce(A, one)
        await eventually(lambda: "left" in right_listener.inflight)
        late, listener = open_store(url), InflightCalls()
        await late.start("late", listener)
        try:
            assert ("left", {A: one}, True) in listener.calls
            left.announce(B, two)
            await eventually(lambda: ("left", {B: two}, False) in listener.calls)
            assert listener.inflight["left"] == {A: one, B: two}
        finally:
            await late.aclose()

    play(url, scene)


def test_the_last_of_many_numbers_stays(url: str) -> None:
    async def scene(
        left: StateStore, left_listener: RecordingListener, right: StateStore, right_listener: RecordingListener
    ) -> None:
        for requests in range(1000, -1, -1):
            left.announce(A, InflightNumbers(requests, requests * 10, requests))
        left.announce(B, InflightNumbers(1, 1, 1))
        await eventually(lambda: B in right_listener.inflight.get("left", {}))
        assert right_listener.inflight["left"].get(A, InflightNumbers()) == InflightNumbers()

    play(url, scene)


def test_nothing_is_received_from_inside_the_call_that_announces_it(url: str) -> None:
    async def scene(
        left: StateStore, left_listener: RecordingListener, right: StateStore, right_listener: RecordingListener
    ) -> None:
        left.announce(A, InflightNumbers(1, 1, 1))
        left.placed(A, [1])
        assert right_listener.inflight == {}
        assert right_listener.placed == []
        await eventually(lambda: bool(right_listener.inflight and right_listener.placed))

    play(url, scene)


def test_placements_arrive_whole_and_in_order(url: str) -> None:
    async def scene(
        left: StateStore, left_listener: RecordingListener, right: StateStore, right_listener: RecordingListener
    ) -> None:
        left.placed(A, [1, 2**64 - 1])
        left.placed(B, [3])
        left.placed(A, [1, 5, 7])
        await eventually(lambda: len(right_listener.placed) == 3)
        assert right_listener.placed == [(A, (1, 2**64 - 1)), (B, (3,)), (A, (1, 5, 7))]
        assert left_listener.placed == []

    play(url, scene)


def test_a_replica_that_starts_later_gets_everything_before_start_returns(url: str) -> None:
    async def scene(
        left: StateStore, left_listener: RecordingListener, right: StateStore, right_listener: RecordingListener
    ) -> None:
        left.announce(A, InflightNumbers(3, 30, 3))
        left.announce(B, InflightNumbers(1, 10, 1))
        left.announce(B, InflightNumbers())
        left.placed(A, [1, 2])
        await left.put_policy("default", PolicyRecord("p2c", {"choices": 3}), if_generation=None)
        await eventually(lambda: bool(right_listener.inflight and right_listener.placed and right_listener.policies))
        late, late_listener = open_store(url), RecordingListener()
        await late.start("late", late_listener)
        busy = {pod: n for pod, n in late_listener.inflight.get("left", {}).items() if n.requests}
        assert busy == {A: InflightNumbers(3, 30, 3)}
        assert late_listener.placed == [(A, (1, 2))]
        assert late_listener.policies["default"] == PolicyRecord("p2c", {"choices": 3}, 1)
        assert {r.id for r in late.replicas()} == {"late", "left", "right"}
        await late.aclose()

    play(url, scene)


def test_closing_sends_pending_updates_and_then_removes_the_share(url: str) -> None:
    async def scene(
        left: StateStore, left_listener: RecordingListener, right: StateStore, right_listener: RecordingListener
    ) -> None:
        left.announce(A, InflightNumbers(1, 1, 1))
        left.placed(A, [9])
        await left.aclose()
        await left.aclose()
        await eventually(lambda: right_listener.gone == ["left"])
        assert right_listener.placed == [(A, (9,))]
        assert right_listener.inflight == {}
        assert [r.id for r in right.replicas()] == ["right"]

    play(url, scene)


def test_a_closed_store_takes_announcements_without_an_error_and_without_effect(url: str) -> None:
    async def scene(
        left: StateStore, left_listener: RecordingListener, right: StateStore, right_listener: RecordingListener
    ) -> None:
        await left.aclose()
        await eventually(lambda: right_listener.gone == ["left"])
        left.announce(A, InflightNumbers(1, 1, 1))
        left.placed(A, [1])
        late = open_store(url)
        late_listener = RecordingListener()
        await late.start("late", late_listener)
        late.announce(B, InflightNumbers(1, 1, 1))
        await eventually(lambda: "late" in right_listener.inflight)
        assert set(right_listener.inflight) == {"late"}
        assert late_listener.inflight.get("left", {}) == {}
        await late.aclose()

    play(url, scene)


def test_replicas_are_listed_with_this_one_first(url: str) -> None:
    async def scene(
        left: StateStore, left_listener: RecordingListener, right: StateStore, right_listener: RecordingListener
    ) -> None:
        await eventually(lambda: len(left.replicas()) == 2)
        assert [r.id for r in left.replicas()] == ["left", "right"]
        assert [r.id for r in right.replicas()] == ["right", "left"]
        assert all(r.age_s >= 0.0 for r in right.replicas())
        assert right.age_s() >= 0.0

    play(url, scene)


def test_a_policy_that_was_never_set_is_none(url: str) -> None:
    async def scene(
        left: StateStore, left_listener: RecordingListener, right: StateStore, right_listener: RecordingListener
    ) -> None:
        assert await left.policy("default") is None
        assert await left.policy_history("default") == []

    play(url, scene)


def test_generations_start_at_one_and_every_pool_counts_its_own(url: str) -> None:
    async def scene(
        left: StateStore, left_listener: RecordingListener, right: StateStore, right_listener: RecordingListener
    ) -> None:
        params = {"seed": 7, "weights": {"load": 1.5}, "names": ["a"]}
        assert await left.put_policy("a", PolicyRecord("p2c", params), if_generation=0) == PolicyRecord(
            "p2c", params, 1
        )
        assert await right.put_policy("a", PolicyRecord("random", {}), if_generation=1) == PolicyRecord("random", {}, 2)
        assert (await right.put_policy("b", PolicyRecord("random", {}), if_generation=None)).generation == 1
        assert await left.policy("a") == PolicyRecord("random", {}, 2)
        assert await left.policy_history("a") == [PolicyRecord("random", {}, 2), PolicyRecord("p2c", params, 1)]

    play(url, scene)


def test_a_record_is_put_and_received_whole_and_the_next_one_starts_empty(url: str) -> None:
    shadow = PolicyChoice("random")
    candidate = PolicyChoice("profile", {"scorers": [{"name": "queue", "weight": 2.5}]})
    canary = Canary(candidate, 12.5, CanaryGuard(error_rate=0.0, min_requests=9))

    async def scene(
        left: StateStore, left_listener: RecordingListener, right: StateStore, right_listener: RecordingListener
    ) -> None:
        note = "why, and in ümlauts"
        put = await left.put_policy("a", PolicyRecord("p2c", {}, 0, shadow, canary, note, 0), if_generation=0)
        assert put == PolicyRecord("p2c", {}, 1, shadow, canary, note, 0)
        await eventually(lambda: right_listener.policies == {"a": put})
        late, late_listener = open_store(url), RecordingListener()
        await late.start("late", late_listener)
        await late.aclose()
        assert late_listener.policies == {"a": put}
        bare = await right.put_policy("a", PolicyRecord("p2c", {}), if_generation=1)
        assert bare == PolicyRecord("p2c", {}, 2)
        assert await left.policy_history("a") == [bare, put]

    play(url, scene)


def test_a_stale_generation_changes_nothing(url: str) -> None:
    async def scene(
        left: StateStore, left_listener: RecordingListener, right: StateStore, right_listener: RecordingListener
    ) -> None:
        with pytest.raises(StaleGeneration, match="generation 0"):
            await left.put_policy("a", PolicyRecord("p2c", {}), if_generation=3)
        await left.put_policy("a", PolicyRecord("p2c", {}), if_generation=None)
        for stale in (0, 2):
            with pytest.raises(StaleGeneration, match="generation 1"):
                await right.put_policy("a", PolicyRecord("random", {}), if_generation=stale)
        assert await right.policy("a") == PolicyRecord("p2c", {}, 1)

    play(url, scene)


def test_of_replicas_that_compare_and_set_at_once_one_wins(url: str) -> None:
    async def scene(
        left: StateStore, left_listener: RecordingListener, right: StateStore, right_listener: RecordingListener
    ) -> None:
        tries = [store.put_policy("a", PolicyRecord("p2c", {}), if_generation=0) for store in (left, right) * 5]
        outcomes = await asyncio.gather(*tries, return_exceptions=True)
        assert sum(isinstance(outcome, PolicyRecord) for outcome in outcomes) == 1
        assert sum(isinstance(outcome, StaleGeneration) for outcome in outcomes) == 9

    play(url, scene)


def test_a_new_policy_is_received_by_the_others(url: str) -> None:
    async def scene(
        left: StateStore, left_listener: RecordingListener, right: StateStore, right_listener: RecordingListener
    ) -> None:
        await left.put_policy("a", PolicyRecord("p2c", {"choices": 2}), if_generation=None)
        await left.put_policy("a", PolicyRecord("p2c", {"choices": 4}), if_generation=1)
        await eventually(lambda: "a" in right_listener.policies and right_listener.policies["a"].generation == 2)
        assert right_listener.policies["a"].params == {"choices": 4}
        assert left_listener.policies == {}

    play(url, scene)


def test_a_returned_record_is_a_copy(url: str) -> None:
    async def scene(
        left: StateStore, left_listener: RecordingListener, right: StateStore, right_listener: RecordingListener
    ) -> None:
        names = ["a"]
        choice = PolicyChoice("p2c", {"names": names})
        await left.put_policy("a", PolicyRecord(*choice, 0, choice, Canary(choice, 5.0)), if_generation=None)
        names.append("b")
        kept = PolicyChoice("p2c", {"names": ["a"]})
        assert await right.policy("a") == PolicyRecord(*kept, 1, kept, Canary(kept, 5.0))

    play(url, scene)


def test_an_engine_s_report_reaches_the_other_replica_and_one_that_starts_later(url: str) -> None:
    async def scene(
        left: StateStore, left_listener: RecordingListener, right: StateStore, right_listener: RecordingListener
    ) -> None:
        first, last = EngineReport(queued=9), EngineReport(queued=3, kv_usage=0.5, started_at=7.0)
        left.report(A, first)
        left.report(A, last)
        await eventually(lambda: right_listener.reports.get(A) == last)
        late, late_listener = open_store(url), RecordingListener()
        await late.start("late", late_listener)
        await late.aclose()
        assert late_listener.reports == {A: last}
        assert late_listener.report_ages_s[A] >= 0.0
        assert left_listener.reports == {}

    play(url, scene)


def test_a_pod_whose_models_changed_is_named_to_the_other_replica(url: str) -> None:
    async def scene(
        left: StateStore, left_listener: RecordingListener, right: StateStore, right_listener: RecordingListener
    ) -> None:
        left.models_changed(A)
        await eventually(lambda: right_listener.changed_lists == [A])
        assert left_listener.changed_lists == []

    play(url, scene)


def test_what_was_served_under_a_name_is_known_to_the_other_replica_by_its_last_count(url: str) -> None:
    async def scene(
        left: StateStore, left_listener: RecordingListener, right: StateStore, right_listener: RecordingListener
    ) -> None:
        left.served("p\na", 100)
        left.served("p\na", 250)
        left.served("p\nb", 7)
        await eventually(lambda: right_listener.served == {"left": {"p\na": 250, "p\nb": 7}})
        right.served("p\na", 3)
        left.served("p\na", 300)
        await eventually(lambda: right_listener.served["left"]["p\na"] == 300)
        await eventually(lambda: left_listener.served == {"right": {"p\na": 3}})

    play(url, scene)


def test_a_forgotten_pod_is_received_in_its_order_among_the_placements(url: str) -> None:
    async def scene(
        left: StateStore, left_listener: RecordingListener, right: StateStore, right_listener: RecordingListener
    ) -> None:
        left.placed(A, [1, 2])
        left.forgot(A)
        left.placed(A, [3])
        left.placed(A, [])
        await eventually(lambda: len(right_listener.placed) == 3)
        assert right_listener.placed == [(A, (1, 2)), (A, ()), (A, (3,))]
        assert left_listener.placed == []

    play(url, scene)


def test_exactly_one_of_the_live_replicas_is_elected_for_a_pod(url: str) -> None:
    async def scene(
        left: StateStore, left_listener: RecordingListener, right: StateStore, right_listener: RecordingListener
    ) -> None:
        await eventually(lambda: len(left.replicas()) == len(right.replicas()) == 2)
        pods = [PodId(f"10.0.0.{n}:8000") for n in range(100)]
        of_left = [pod for pod in pods if left.elected(pod)]
        assert [pod for pod in pods if not right.elected(pod)] == of_left
        assert 20 < len(of_left) < 80
        await right.aclose()
        await eventually(lambda: len(left.replicas()) == 1)
        assert all(left.elected(pod) for pod in pods)

    play(url, scene)


def test_a_replica_is_elected_among_those_that_have_the_pod(url: str) -> None:
    """Case I 50."""

    async def scene(
        left: StateStore, left_listener: RecordingListener, right: StateStore, right_listener: RecordingListener
    ) -> None:
        pods = [Pod(PodId(f"10.0.0.{n}:8000"), f"10.0.0.{n}:8000") for n in range(100)]
        left.change_pods("default", PodChange(come=tuple(pods[:50])))
        right.change_pods("default", PodChange(come=tuple(pods[50:])))

        def each_has_its_own() -> bool:
            pass_time(STEADY.lease_s / 50)
            mine, others = ([store.elected(pod.id) for pod in pods] for store in (left, right))
            return all(mine[:50]) and all(others[50:])

        await eventually(each_has_its_own)

    play(url, scene)


def test_a_replica_that_joins_learns_which_pods_the_others_find_well(url: str) -> None:
    """Case I 51."""

    async def scene(
        left: StateStore, left_listener: RecordingListener, right: StateStore, right_listener: RecordingListener
    ) -> None:
        for store in (left, right):
            store.change_pods("default", PodChange(come=(Pod(A, A), Pod(B, B))))
        left.probed(A, True)
        right.probed(A, False)
        right.probed(B, False)
        right.listed(B, b"page")
        known = {A: KnownPod(True), B: KnownPod(False, b"page")}
        for n in range(100):
            pass_time(STEADY.lease_s / 50)
            late, late_listener = open_store(url), RecordingListener()
            await late.start(f"late-{n}", late_listener)
            await late.aclose()
            if late_listener.known == known:
                return
        raise AssertionError(f"the last one learned {late_listener.known}")

    play(url, scene)


def test_a_started_store_is_connected_and_warm(url: str) -> None:
    async def scene(
        left: StateStore, left_listener: RecordingListener, right: StateStore, right_listener: RecordingListener
    ) -> None:
        left.announce(A, InflightNumbers(1, 1, 1, 1))
        await eventually(lambda: "left" in right_listener.inflight)
        for health in (left.health(), right.health()):
            assert (health.connected, health.warm, health.error) == (True, True, "")
            assert health.reconnects == health.lease_losses == health.unreadable == health.placements_dropped == 0

    play(url, scene)


def test_two_live_replicas_cannot_have_one_name(url: str) -> None:
    async def scene(
        left: StateStore, left_listener: RecordingListener, right: StateStore, right_listener: RecordingListener
    ) -> None:
        left.announce(A, InflightNumbers(1, 1, 1, 1))
        twin = open_store(url)
        starting = asyncio.get_running_loop().create_task(twin.start("left", RecordingListener()))
        await asyncio.sleep(0)
        while not starting.done():  # it waits to see whether the other's lease is renewed
            pass_renewal()
            await eventually(lambda: starting.done() or all(known.age_s < 1.0 for known in right.replicas()))
        with pytest.raises(StateError, match="'left' is live"):
            await starting
        await twin.aclose()
        await eventually(lambda: "left" in right_listener.inflight)
        assert right_listener.gone == []

    play(url, scene)


def test_a_replica_puts_its_figures_of_a_trial_and_gets_those_of_all(url: str) -> None:
    async def scene(
        left: StateStore, left_listener: RecordingListener, right: StateStore, right_listener: RecordingListener
    ) -> None:
        assert await left.share_trial("a", 3, "left/1", b"\x00old") == {"left/1": b"\x00old"}
        assert await right.share_trial("a", 3, "right/1", b"two") == {"left/1": b"\x00old", "right/1": b"two"}
        assert await left.share_trial("a", 3, "left/1", b"new") == {"left/1": b"new", "right/1": b"two"}

    play(url, scene)


def test_each_generation_of_each_pool_is_its_own_trial(url: str) -> None:
    async def scene(
        left: StateStore, left_listener: RecordingListener, right: StateStore, right_listener: RecordingListener
    ) -> None:
        await left.share_trial("a", 3, "left", b"1")
        assert await right.share_trial("a", 4, "right", b"2") == {"right": b"2"}
        assert await right.share_trial("b", 3, "right", b"3") == {"right": b"3"}

    play(url, scene)


def test_a_replica_s_figures_of_a_trial_stay_after_it_leaves(url: str) -> None:
    async def scene(
        left: StateStore, left_listener: RecordingListener, right: StateStore, right_listener: RecordingListener
    ) -> None:
        await left.share_trial("a", 3, "left", b"1")
        await left.aclose()
        await eventually(lambda: right_listener.gone == ["left"])
        assert await right.share_trial("a", 3, "right", b"2") == {"left": b"1", "right": b"2"}

    play(url, scene)


def test_case_c9_the_owner_of_an_id_is_known_to_every_replica_and_outlives_the_one_that_noted_it(url: str) -> None:
    async def scene(
        left: StateStore, left_listener: RecordingListener, right: StateStore, right_listener: RecordingListener
    ) -> None:
        key, other = key_of("resp_1"), key_of("resp_2")
        assert await right.owner(key) is None
        left.own(other, B)
        left.own(key, A)
        assert await left.owner(key) == A, "over the same link, so the notes came before it"
        await left.aclose()
        assert [await right.owner(each) for each in (key, other)] == [A, B]

    play(url, scene)


def test_replicas_hold_shares_of_a_limit_until_they_leave(url: str) -> None:
    async def scene(
        left: StateStore, left_listener: RecordingListener, right: StateStore, right_listener: RecordingListener
    ) -> None:
        slots, units = ShareAsk("s", 10.0, 0.0, 1.0, 8.0), ShareAsk("u", 600.0, 1e-6, 0.0, 400.0)
        answer = await left.share_limits([slots, units])
        assert answer == ShareAnswer(2, [ShareGrant(8, 2, 2), ShareGrant(400, 200, 600)])
        (slots_left, units_left) = (await right.share_limits([slots, units])).grants
        assert (slots_left, units_left) == (ShareGrant(2, 0, 0), ShareGrant(200, 0, 600))
        await left.aclose()
        await eventually(lambda: right_listener.gone == ["left"])
        assert await right.share_limits([slots]) == ShareAnswer(1, [ShareGrant(8, 2, 2)])

    play(url, scene)
