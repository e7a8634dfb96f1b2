"""Which pod is due when, in virtual time; and the polling loop."""

from __future__ import annotations

import asyncio
import random
from collections import Counter

from schedulers.types import Pod, PodId
from statesync.discovery.changes import PodChange
from statesync.engines.polling import RUSH, Poller, PollInterval, PollSchedule
from statesync.tasks import spawn
from tests.fakes.waiting import DEADLINE_S
from tests.fakes.whole_pools import set_pods


def pods_of(*names: str) -> list[Pod]:
    return [Pod(PodId(name), f"{name}:1") for name in names]


def walk(rounds: PollSchedule, until_s: float, start_s: float = 0.0) -> list[tuple[float, str]]:
    """All visits of an undelayed loop up to a moment."""
    visits: list[tuple[float, str]] = []
    now = start_s
    while (at := rounds.next_at()) is not None and at <= until_s:
        now = max(now, at)
        visits += [(now, pod.id) for pod in rounds.due(now)]
    return visits


def test_new_pods_are_visited_right_away_and_then_at_the_interval() -> None:
    rounds = PollSchedule(PollInterval(5.0, 1000.0), random.Random(1).random)
    set_pods(rounds, "pool", pods_of("a", "b", "c"), 0.0)
    visits = walk(rounds, 100.0)
    assert {pod for at, pod in visits if at < 0.01} == {"a", "b", "c"}
    assert all(18 <= count <= 23 for count in Counter(pod for _, pod in visits).values())


def test_turns_of_pods_that_came_together_are_spread_over_the_interval() -> None:
    rounds = PollSchedule(PollInterval(10.0, 10_000.0), random.Random(2).random)
    set_pods(rounds, "pool", pods_of(*(f"p{number}" for number in range(200))), 0.0)
    visits = walk(rounds, 60.0)
    per_second = Counter(int(at) for at, _ in visits if at >= 20)
    assert max(per_second.values()) <= 3 * 200 / 10


def test_in_a_rush_first_visits_come_ten_times_as_fast_and_later_ones_do_not() -> None:
    """Case I 51."""
    rounds = PollSchedule(PollInterval(1.0, 50.0), random.Random(3).random)
    rounds.rush = True
    set_pods(rounds, "pool", pods_of(*(f"p{number}" for number in range(500))), 0.0)
    visits = walk(rounds, 30.0)
    assert len({pod for at, pod in visits if at < 500 / (RUSH * 50.0) + 0.1}) >= 450
    for start in range(2, 30):
        assert sum(1 for at, _ in visits if start <= at < start + 1) <= 52


def test_pods_that_another_replica_has_visited_wait_for_their_turn_in_the_interval() -> None:
    rounds = PollSchedule(PollInterval(10.0, 1000.0), random.Random(4).random)
    set_pods(rounds, "pool", pods_of(*(f"p{number}" for number in range(200)), "new"), 0.0)
    for number in range(200):
        rounds.visited(PodId(f"p{number}"), 0.0)
    rounds.visited(PodId("unknown"), 0.0)
    visits = walk(rounds, 10.0)
    assert visits[0][1] == "new"
    assert max(Counter(int(at) for at, _ in visits).values()) <= 2 * 200 / 10
    assert {pod for _, pod in visits} == {"new", *(f"p{number}" for number in range(200))}


def test_many_pods_stretch_the_interval_and_never_exceed_the_rate() -> None:
    rounds = PollSchedule(PollInterval(1.0, 50.0), random.Random(3).random)
    set_pods(rounds, "pool", pods_of(*(f"p{number}" for number in range(500))), 0.0)
    visits = walk(rounds, 60.0)
    for start in range(60):
        assert sum(1 for at, _ in visits if start <= at < start + 1) <= 52
    assert min(Counter(pod for _, pod in visits).values()) >= 3


def test_a_loop_that_was_delayed_does_not_burst_afterwards() -> None:
    rounds = PollSchedule(PollInterval(1.0, 10.0), random.Random(4).random)
    set_pods(rounds, "pool", pods_of(*(f"p{number}" for number in range(10))), 0.0)
    walk(rounds, 10.0)
    assert len(rounds.due(100.0)) <= 2


def test_a_pod_of_two_pools_is_visited_once_and_stays_until_both_drop_it() -> None:
    rounds = PollSchedule(PollInterval(1.0, 100.0), lambda: 0.5)
    set_pods(rounds, "one", pods_of("a"), 0.0)
    set_pods(rounds, "two", pods_of("a"), 0.0)
    assert [pod.id for pod in rounds.due(0.0)] == ["a"]
    assert rounds.pool_of(PodId("a")) == "one"
    set_pods(rounds, "one", [], 0.0)
    assert set(rounds.pods) == {"a"}
    assert rounds.pool_of(PodId("a")) == "two"
    set_pods(rounds, "two", [], 0.0)
    assert rounds.next_at() is None
    assert rounds.pool_of(PodId("a")) == ""


def test_keeping_its_pods_keeps_their_turns() -> None:
    rounds = PollSchedule(PollInterval(10.0, 100.0), lambda: 0.5)
    set_pods(rounds, "pool", pods_of("a"), 0.0)
    rounds.due(0.0)
    set_pods(rounds, "pool", pods_of("a", "b"), 1.0)
    assert [pod.id for pod in rounds.due(1.0)] == ["b"]


def test_single_changes_give_the_same_schedule_as_the_full_list() -> None:
    received, whole = (PollSchedule(PollInterval(1.0, 50.0), random.Random(7).random) for _ in range(2))
    now, here = 0.0, set[str]()
    rng = random.Random(8)
    for _ in range(60):
        there = {f"p{rng.randrange(40)}" for _ in range(20)}
        change = PodChange(tuple(pods_of(*sorted(there - here))), tuple(map(PodId, here - there)))
        assert set(received.change_pods("pool", change, now)) == here - there
        set_pods(whole, "pool", pods_of(*sorted(there)), now)
        assert received.pods.keys() == whole.pods.keys()
        now, here = now + rng.random() / 5, there
        assert received.next_at() == whole.next_at()
        assert received.due(now) == whole.due(now)


def test_a_pod_that_left_has_no_turn_and_one_that_came_back_has_one() -> None:
    rounds = PollSchedule(PollInterval(10.0, 1000.0), lambda: 0.5)
    a, b = pods_of("a", "b")
    rounds.change_pods("pool", PodChange((a, b)), 0.0)
    walk(rounds, 1.0)
    assert rounds.change_pods("pool", PodChange(gone=(a.id,)), 1.0) == [a.id]
    assert rounds.change_pods("pool", PodChange(gone=(a.id,)), 1.0) == [], "received twice"
    rounds.change_pods("pool", PodChange((a,)), 2.0)
    assert rounds.due(2.0) == [a]
    assert [pod for _, pod in walk(rounds, 12.5, 2.0)] == ["b", "a"]


def test_a_pod_with_a_new_address_keeps_its_turn_and_is_visited_there() -> None:
    rounds = PollSchedule(PollInterval(10.0, 1000.0), lambda: 0.5)
    set_pods(rounds, "pool", pods_of("a"), 0.0)
    rounds.due(0.0)
    moved = Pod(PodId("a"), "elsewhere:1")
    rounds.change_pods("pool", PodChange((moved,)), 1.0)
    assert rounds.due(1.0) == []
    assert rounds.due(11.0) == [moved]


def test_skipped_pods_cost_nothing_and_stretch_no_interval() -> None:
    rounds = PollSchedule(PollInterval(1.0, 50.0), random.Random(5).random, lambda pod: pod.endswith("0"))
    set_pods(rounds, "pool", pods_of(*(f"p{number}" for number in range(500))), 0.0)
    walk(rounds, 10.0)
    visits = walk(rounds, 70.0, 10.0)
    assert {pod for _, pod in visits} == {f"p{number}" for number in range(0, 500, 10)}
    counts = Counter(pod for _, pod in visits)
    assert min(counts.values()) >= 50, "50 pods and 50 a second: each every second or so"


def test_many_skipped_pods_are_examined_in_batches() -> None:
    rounds = PollSchedule(PollInterval(1.0, 50.0), random.Random(6).random, lambda pod: False)
    set_pods(rounds, "pool", pods_of(*(f"p{number}" for number in range(1000))), 0.0)
    looks, now = 0, 0.0
    while (at := rounds.next_at()) is not None and at <= 20.0:
        assert rounds.due(now := max(now, at)) == []
        looks += 1
    assert looks <= 20 * 50 + 1


def test_whether_a_pod_is_wanted_is_asked_at_each_of_its_turns() -> None:
    wanted: set[str] = set()
    rounds = PollSchedule(PollInterval(1.0, 50.0), lambda: 0.5, wanted.__contains__)
    set_pods(rounds, "pool", pods_of("a"), 0.0)
    assert walk(rounds, 5.0) == []
    wanted.add("a")
    assert len(walk(rounds, 10.0, 5.0)) in (5, 6)
    wanted.clear()
    assert walk(rounds, 20.0, 11.0) == []


def test_a_slow_pod_delays_no_other_and_is_not_visited_twice_at_once() -> None:
    async def story() -> None:
        counts: Counter[str] = Counter()
        enough = asyncio.Event()

        async def visit(pod: Pod) -> None:
            counts[pod.id] += 1
            if counts["quick"] >= 5:
                enough.set()
            if pod.id == "slow":
                await asyncio.Event().wait()

        poller = Poller(PollInterval(0.001, 10_000.0), "test")
        set_pods(poller, "pool", pods_of("slow", "quick"))
        async with asyncio.timeout(DEADLINE_S), asyncio.TaskGroup() as group:
            walking = group.create_task(poller.run(visit))
            await enough.wait()
            walking.cancel()
        assert counts["slow"] == 1

    asyncio.run(story())


def test_a_pod_that_left_and_came_back_is_visited_at_once() -> None:
    async def story() -> None:
        started: asyncio.Queue[str] = asyncio.Queue()
        broken_off: list[str] = []

        async def visit(pod: Pod) -> None:
            started.put_nowait(pod.id)
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                broken_off.append(pod.id)
                raise

        poller = Poller(PollInterval(1000.0, 10_000.0), "test")
        set_pods(poller, "pool", pods_of("a"))
        async with asyncio.timeout(DEADLINE_S), asyncio.TaskGroup() as group:
            walking = group.create_task(poller.run(visit))
            await started.get()
            set_pods(poller, "pool", [])
            set_pods(poller, "pool", pods_of("a"))
            await started.get()
            assert broken_off == ["a"]
            walking.cancel()
        assert broken_off == ["a", "a"], "cancelling the walk breaks off its visits"

    asyncio.run(story())


def test_a_first_round_ends_with_the_last_first_visit_in_whatever_order_they_end() -> None:
    async def story() -> None:
        pods = pods_of("a", "b", "c", "d")
        poller = Poller(PollInterval(1.0, 1.0), "test")
        poller.change_pods("pool", PodChange(come=tuple(pods)))
        waiting = spawn(poller.first_round(), "first round")
        for at in (3, 1, 0):
            poller.known(pods[at].id)
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            assert not waiting.done()
        poller.change_pods("pool", PodChange(come=(Pod(PodId("later"), "later"),), gone=(pods[2].id,)))
        async with asyncio.timeout(DEADLINE_S):
            await waiting

    asyncio.run(story())
