"""What every store must do, whatever is behind it. A new store joins by one line in `STORES`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping, Sequence
from itertools import count

import pytest
from redis_server import RedisServer, redis_server

from schedulers.types import PodId
from statesync.errors import StaleGeneration
from statesync.store import PolicyRecord, StateStore
from statesync.stores import open_store
from statesync.types import EngineReport, InflightNumbers, PrefixPage

A, B = PodId("10.0.0.1:8000"), PodId("10.0.0.2:8000")
PATIENCE_S = 10.0

_fresh = count()

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


class Ears:
    """A listener that keeps the sum of what it heard, as a replica would."""

    def __init__(self) -> None:
        self.inflight: dict[str, dict[PodId, InflightNumbers]] = {}
        self.gone: list[str] = []
        self.placed: list[tuple[PodId, tuple[int, ...]]] = []
        self.forgotten: list[PodId] = []
        self.reports: dict[PodId, EngineReport] = {}
        self.policies: dict[str, PolicyRecord] = {}

    def replica_inflight(self, replica: str, numbers: Mapping[PodId, InflightNumbers], /) -> None:
        self.inflight.setdefault(replica, {}).update(numbers)

    def replica_gone(self, replica: str, /) -> None:
        self.gone.append(replica)
        self.inflight.pop(replica, None)

    def placed_elsewhere(self, pod: PodId, blocks: Sequence[int], /) -> None:
        self.placed.append((pod, tuple(blocks)))

    def forgotten_elsewhere(self, pod: PodId, /) -> None:
        self.forgotten.append(pod)

    def reported_elsewhere(self, pod: PodId, report: EngineReport, age_s: float, /) -> None:
        self.reports[pod] = report

    def checkpoint(self) -> Iterable[PrefixPage]:
        return ()

    def restored(self, page: PrefixPage, /) -> None:
        raise AssertionError("nobody wrote a checkpoint")

    def policy_changed(self, pool: str, record: PolicyRecord, /) -> None:
        self.policies[pool] = record


async def heard(what: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not what():  # noqa: ASYNC110 - `replicas` has no event to wait for
            await asyncio.sleep(0.001)


Scene = Callable[[StateStore, Ears, StateStore, Ears], Coroutine[None, None, None]]


def play(url: str, scene: Scene) -> None:
    """Run a scene with two started stores, `left` and `right`, and close them."""

    async def run() -> None:
        left, right, left_ears, right_ears = open_store(url), open_store(url), Ears(), Ears()
        await left.start("left", left_ears)
        await right.start("right", right_ears)
        try:
            await scene(left, left_ears, right, right_ears)
        finally:
            await left.aclose()
            await right.aclose()

    asyncio.run(run())


def test_numbers_reach_the_other_replica_and_not_their_own(url: str) -> None:
    async def scene(left: StateStore, left_ears: Ears, right: StateStore, right_ears: Ears) -> None:
        left.announce(A, InflightNumbers(1, 300, 200))
        right.announce(B, InflightNumbers(2, 500, 0))
        await heard(lambda: "left" in right_ears.inflight and "right" in left_ears.inflight)
        assert right_ears.inflight == {"left": {A: InflightNumbers(1, 300, 200)}}
        assert left_ears.inflight == {"right": {B: InflightNumbers(2, 500, 0)}}

    play(url, scene)


def test_the_last_of_many_numbers_is_the_one_that_stays(url: str) -> None:
    async def scene(left: StateStore, left_ears: Ears, right: StateStore, right_ears: Ears) -> None:
        for requests in range(1000, -1, -1):
            left.announce(A, InflightNumbers(requests, requests * 10, requests))
        left.announce(B, InflightNumbers(1, 1, 1))
        await heard(lambda: B in right_ears.inflight.get("left", {}))
        assert right_ears.inflight["left"].get(A, InflightNumbers()) == InflightNumbers()

    play(url, scene)


def test_nothing_is_heard_from_inside_the_call_that_says_it(url: str) -> None:
    async def scene(left: StateStore, left_ears: Ears, right: StateStore, right_ears: Ears) -> None:
        left.announce(A, InflightNumbers(1, 1, 1))
        left.placed(A, [1])
        assert right_ears.inflight == {}
        assert right_ears.placed == []
        await heard(lambda: bool(right_ears.inflight and right_ears.placed))

    play(url, scene)


def test_placements_arrive_whole_and_in_order(url: str) -> None:
    async def scene(left: StateStore, left_ears: Ears, right: StateStore, right_ears: Ears) -> None:
        left.placed(A, [1, 2**64 - 1])
        left.placed(B, [3])
        left.placed(A, [1, 5, 7])
        await heard(lambda: len(right_ears.placed) == 3)
        assert right_ears.placed == [(A, (1, 2**64 - 1)), (B, (3,)), (A, (1, 5, 7))]
        assert left_ears.placed == []

    play(url, scene)


def test_a_replica_that_starts_later_is_told_all_before_start_returns(url: str) -> None:
    async def scene(left: StateStore, left_ears: Ears, right: StateStore, right_ears: Ears) -> None:
        left.announce(A, InflightNumbers(3, 30, 3))
        left.announce(B, InflightNumbers(1, 10, 1))
        left.announce(B, InflightNumbers())
        left.placed(A, [1, 2])
        await left.put_policy("default", "p2c", {"choices": 3}, if_generation=None)
        await heard(lambda: bool(right_ears.inflight and right_ears.placed and right_ears.policies))
        late, late_ears = open_store(url), Ears()
        await late.start("late", late_ears)
        busy = {pod: n for pod, n in late_ears.inflight.get("left", {}).items() if n.requests}
        assert busy == {A: InflightNumbers(3, 30, 3)}
        assert late_ears.placed == [(A, (1, 2))]
        assert late_ears.policies["default"] == PolicyRecord("p2c", {"choices": 3}, 1)
        assert {r.id for r in late.replicas()} == {"late", "left", "right"}
        await late.aclose()

    play(url, scene)


def test_closing_sends_what_is_pending_and_then_the_share_goes(url: str) -> None:
    async def scene(left: StateStore, left_ears: Ears, right: StateStore, right_ears: Ears) -> None:
        left.announce(A, InflightNumbers(1, 1, 1))
        left.placed(A, [9])
        await left.aclose()
        await left.aclose()
        await heard(lambda: right_ears.gone == ["left"])
        assert right_ears.placed == [(A, (9,))]
        assert right_ears.inflight == {}
        assert [r.id for r in right.replicas()] == ["right"]

    play(url, scene)


def test_a_closed_store_takes_announcements_without_an_error_and_without_effect(url: str) -> None:
    async def scene(left: StateStore, left_ears: Ears, right: StateStore, right_ears: Ears) -> None:
        await left.aclose()
        await heard(lambda: right_ears.gone == ["left"])
        left.announce(A, InflightNumbers(1, 1, 1))
        left.placed(A, [1])
        late = open_store(url)
        late_ears = Ears()
        await late.start("late", late_ears)
        late.announce(B, InflightNumbers(1, 1, 1))
        await heard(lambda: "late" in right_ears.inflight)
        assert set(right_ears.inflight) == {"late"}
        assert late_ears.inflight.get("left", {}) == {}
        await late.aclose()

    play(url, scene)


def test_replicas_are_listed_with_this_one_first(url: str) -> None:
    async def scene(left: StateStore, left_ears: Ears, right: StateStore, right_ears: Ears) -> None:
        await heard(lambda: len(left.replicas()) == 2)
        assert [r.id for r in left.replicas()] == ["left", "right"]
        assert [r.id for r in right.replicas()] == ["right", "left"]
        assert all(r.age_s >= 0.0 for r in right.replicas())
        assert right.age_s() >= 0.0

    play(url, scene)


def test_a_policy_that_was_never_set_is_none(url: str) -> None:
    async def scene(left: StateStore, left_ears: Ears, right: StateStore, right_ears: Ears) -> None:
        assert await left.policy("default") is None
        assert await left.policy_history("default") == []

    play(url, scene)


def test_generations_start_at_one_and_every_pool_counts_its_own(url: str) -> None:
    async def scene(left: StateStore, left_ears: Ears, right: StateStore, right_ears: Ears) -> None:
        params = {"seed": 7, "weights": {"load": 1.5}, "names": ["a"]}
        assert await left.put_policy("a", "p2c", params, if_generation=0) == PolicyRecord("p2c", params, 1)
        assert await right.put_policy("a", "random", {}, if_generation=1) == PolicyRecord("random", {}, 2)
        assert (await right.put_policy("b", "random", {}, if_generation=None)).generation == 1
        assert await left.policy("a") == PolicyRecord("random", {}, 2)
        assert await left.policy_history("a") == [PolicyRecord("random", {}, 2), PolicyRecord("p2c", params, 1)]

    play(url, scene)


def test_a_stale_generation_changes_nothing(url: str) -> None:
    async def scene(left: StateStore, left_ears: Ears, right: StateStore, right_ears: Ears) -> None:
        with pytest.raises(StaleGeneration, match="generation 0"):
            await left.put_policy("a", "p2c", {}, if_generation=3)
        await left.put_policy("a", "p2c", {}, if_generation=None)
        for stale in (0, 2):
            with pytest.raises(StaleGeneration, match="generation 1"):
                await right.put_policy("a", "random", {}, if_generation=stale)
        assert await right.policy("a") == PolicyRecord("p2c", {}, 1)

    play(url, scene)


def test_of_many_replicas_that_compare_and_set_at_once_one_wins(url: str) -> None:
    async def scene(left: StateStore, left_ears: Ears, right: StateStore, right_ears: Ears) -> None:
        tries = [store.put_policy("a", "p2c", {}, if_generation=0) for store in (left, right) * 5]
        outcomes = await asyncio.gather(*tries, return_exceptions=True)
        assert sum(isinstance(outcome, PolicyRecord) for outcome in outcomes) == 1
        assert sum(isinstance(outcome, StaleGeneration) for outcome in outcomes) == 9

    play(url, scene)


def test_a_new_policy_is_heard_by_the_others(url: str) -> None:
    async def scene(left: StateStore, left_ears: Ears, right: StateStore, right_ears: Ears) -> None:
        await left.put_policy("a", "p2c", {"choices": 2}, if_generation=None)
        await left.put_policy("a", "p2c", {"choices": 4}, if_generation=1)
        await heard(lambda: "a" in right_ears.policies and right_ears.policies["a"].generation == 2)
        assert right_ears.policies["a"].params == {"choices": 4}
        assert left_ears.policies == {}

    play(url, scene)


def test_a_record_in_hand_is_not_the_store_s_own(url: str) -> None:
    async def scene(left: StateStore, left_ears: Ears, right: StateStore, right_ears: Ears) -> None:
        names = ["a"]
        await left.put_policy("a", "p2c", {"names": names}, if_generation=None)
        names.append("b")
        assert await right.policy("a") == PolicyRecord("p2c", {"names": ["a"]}, 1)

    play(url, scene)
