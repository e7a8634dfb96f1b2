"""Pods that come, go, fail, restart and tell: everyone who keeps something about pods hears of it."""

from __future__ import annotations

import asyncio
import logging
from itertools import pairwise

import pytest

from router.dataplane.http.deadlines import Deadlines
from router.dataplane.http.upstream import Upstream
from router.dataplane.http.upstream_connection import UpstreamConnection
from router.dataplane.request.routes import Routes
from router.replica.pod_registry import MOST_AT_ONCE, PodRegistry
from router.settings import Pool, Timeouts
from router.telemetry.metrics import Metrics
from schedulers.types import Pod, PodId, RequestInfo
from statesync.engines.health import HealthConfig, HealthTracker, Outcome
from statesync.errors import NoRoutablePod
from statesync.load.view import LoadView
from statesync.prefix.accuracy import PrefixAccuracy
from statesync.prefix.index import REACH, PrefixIndex
from statesync.types import EngineReport


def pod(number: int) -> Pod:
    return Pod(PodId(f"p{number}"), f"10.0.0.{number}:80")


A, B, C = pod(1), pod(2), pod(3)


def asking() -> RequestInfo:
    return RequestInfo("r", "m", 300, 100, 0.0, 1, 0)


class Town:
    """A membership and everyone it tells, for a pool whose models are learned and one whose are configured."""

    def __init__(self) -> None:
        self.now = 100.0
        self.view = LoadView(lambda: self.now)
        self.prefix = PrefixIndex(1 << 24, 100_000)
        self.routes = Routes([Pool(name="learns"), Pool(name="knows", models=["k"])], "", Timeouts())
        self.upstream = Upstream(Deadlines(lambda: self.now, 0.1))
        self.metrics = Metrics()
        self.members = PodRegistry(self.view, self.prefix, self.routes, self.upstream, self.metrics)
        self.health = HealthTracker(HealthConfig(eject_failures=1), self.members.on_health, rng=lambda: 0.0)
        self.members.health = self.health

    def idle_connection(self, to: Pod) -> None:
        self.upstream.park(UpstreamConnection(self.upstream, to.address))

    async def arrived(self, pool: str) -> None:
        """All of the pool's pods are known."""
        while pool not in self.members.known:  # noqa: ASYNC110  it takes turns of the loop, and has no event
            await asyncio.sleep(0)

    def routable(self, pool: str) -> list[PodId]:
        try:
            return [each.id for each, _ in self.view.snapshot(pool).candidates]
        except NoRoutablePod:
            return []


def test_pods_that_join_are_routable_and_watched() -> None:
    town = Town()
    town.members.on_pods("learns", [A, B])
    assert town.routable("learns") == ["p1", "p2"]
    assert town.health.cap("learns") == 1
    assert town.members.known == {"learns"}


def test_a_pod_that_left_is_forgotten_by_everyone() -> None:
    town = Town()
    town.members.on_pods("learns", [A, B])
    town.members.on_models(A.id, frozenset({"m"}))
    town.prefix.place(A.id, town.prefix.chain("m", [b"x" * 4096]))
    town.idle_connection(A)
    town.metrics.count_request("learns", "p2c", A.id, 200)
    town.members.on_pods("learns", [B])
    assert town.routable("learns") == ["p2"]
    assert "m" not in town.routes.models()
    assert town.prefix.match(town.prefix.chain("m", [b"x" * 4096])) == {}
    assert town.upstream.idle == {}
    assert town.metrics.requests == {}
    assert town.health.blockers(A.id) == frozenset()


def test_a_pod_that_is_not_ready_is_not_picked_and_nothing_that_is_known_of_it_is_lost() -> None:
    town = Town()
    town.members.on_pods("learns", [A, B])
    town.prefix.place(A.id, town.prefix.chain("m", [b"x" * 4096]))
    charge = town.view.reserve(A.id, asking())
    town.members.on_pods("learns", [A._replace(unready="not_ready"), B])
    assert town.routable("learns") == ["p2"]
    assert town.view.status(A.id).blockers == ("not_ready",)
    assert town.view.status(A.id).load.inflight == 1
    assert set(town.prefix.match(town.prefix.chain("m", [b"x" * 4096]))) == {A.id}
    town.view.release(charge)
    town.members.on_pods("learns", [A._replace(unready="terminating"), B])
    assert town.view.status(A.id).blockers == ("terminating",)
    town.members.on_pods("learns", [A, B])
    assert sorted(town.routable("learns")) == ["p1", "p2"]
    assert set(town.prefix.match(town.prefix.chain("m", [b"x" * 4096]))) == {A.id}


def test_a_pod_that_was_ejected_and_is_not_ready_comes_back_with_a_clean_slate_and_takes_no_others_place() -> None:
    town = Town()
    town.members.on_pods("learns", [A, B])
    town.health.outcome(A.id, Outcome.FAILURE, town.now)
    assert town.health.cap("learns") == 1
    town.members.on_pods("learns", [A._replace(unready="not_ready"), B, C])
    town.health.outcome(A.id, Outcome.FAILURE, town.now)
    assert town.view.status(A.id).blockers == ("not_ready",)
    town.health.outcome(B.id, Outcome.FAILURE, town.now)
    assert town.routable("learns") == ["p3"]
    town.members.on_pods("learns", [A, B, C])
    assert sorted(town.routable("learns")) == ["p1", "p3"]


def test_the_same_pods_again_change_nothing() -> None:
    town = Town()
    town.members.on_pods("learns", [A, B])
    before = town.view.snapshot("learns").generation
    town.members.on_pods("learns", [A, B])
    assert town.view.snapshot("learns").generation == before


def test_a_pod_that_another_pool_has_is_not_taken(caplog: pytest.LogCaptureFixture) -> None:
    town = Town()
    town.members.on_pods("knows", [A])
    with caplog.at_level(logging.ERROR, "turnout.membership"):
        town.members.on_pods("learns", [A, B])
    assert "learns" in caplog.text
    assert town.routable("knows") == ["p1"]
    assert town.members.known == {"knows"}


def test_a_pod_that_fails_leaves_the_rotation_and_comes_back() -> None:
    town = Town()
    town.members.on_pods("learns", [A, B])
    town.health.outcome(A.id, Outcome.FAILURE, town.now)
    assert town.routable("learns") == ["p2"]
    assert town.metrics.ejections == {("p1", "ejected"): 1}
    town.health.due(town.now + 1000)
    assert sorted(town.routable("learns")) == ["p1", "p2"]


@pytest.mark.parametrize("blocked", [True, False])
def test_a_verdict_on_a_pod_that_left_is_ignored(blocked: bool) -> None:
    town = Town()
    town.members.on_health(A.id, "probe", blocked)
    assert town.metrics.ejections == {}


def test_a_report_reaches_the_view_and_sets_the_capacity() -> None:
    town = Town()
    town.members.on_pods("learns", [A])
    town.members.on_report(A.id, EngineReport(queued=3, running=4, kv_capacity_tokens=640), 2.5)
    load = town.view.status(A.id).load
    assert (load.queued, load.running, load.reported_at) == (3, 4, 97.5)
    chain = town.prefix.chain("m", [b"x" * 64 * 4 * 16])
    town.prefix.place(A.id, chain)
    assert REACH[len(chain)] > 10
    assert town.prefix.match(chain).get(A.id, 0) <= 10


def test_what_a_pod_serves_makes_its_pool_reachable() -> None:
    town = Town()
    town.members.on_pods("learns", [A])
    town.members.on_models(A.id, frozenset({"m"}))
    assert town.routes.resolve("m", None, None).pool == "learns"
    town.members.on_models(PodId("gone"), frozenset({"x"}))
    assert "x" not in town.routes.models()


def test_a_restarted_engine_has_an_empty_cache_and_no_connections() -> None:
    town = Town()
    town.members.on_pods("learns", [A])
    chain = town.prefix.chain("m", [b"x" * 4096])
    town.prefix.place(A.id, chain)
    town.idle_connection(A)
    town.members.on_restart(A.id)
    assert (town.prefix.match(chain), town.upstream.idle) == ({}, {})
    town.members.on_restart(PodId("gone"))


def test_what_others_placed_on_a_pod_that_nobody_here_learns_of_is_forgotten_at_the_second_look() -> None:
    town = Town()
    chain = town.prefix.chain("m", [b"x" * 4096])
    town.members.on_pods("knows", [A])
    for each in (A, B, C):
        town.members.placed_elsewhere(each.id, chain)
    town.members.forget_strangers()
    assert set(town.prefix.match(chain)) == {A.id, B.id, C.id}, "discovery may still tell of them"
    town.members.on_pods("learns", [B])
    town.members.forget_strangers()
    assert set(town.prefix.match(chain)) == {A.id, B.id}
    town.members.on_pods("learns", [])
    town.members.placed_elsewhere(B.id, chain)
    town.members.forget_strangers()
    town.members.forget_strangers()
    assert set(town.prefix.match(chain)) == {A.id}, "a pod that left is a stranger too"


def test_restored_pages_of_strangers_are_forgotten_likewise() -> None:
    town, other = Town(), Town()
    chain = other.prefix.chain("m", [b"x" * 4096])
    for each in (A, B):
        other.prefix.place(each.id, chain)
    town.members.on_pods("knows", [A])
    for page in other.prefix.pages():
        town.members.restored(page)
    assert set(town.prefix.match(chain)) == {A.id, B.id}
    town.members.forget_strangers()
    town.members.forget_strangers()
    assert set(town.prefix.match(chain)) == {A.id}


def test_it_is_complete_when_each_pool_has_spoken_and_told_its_models() -> None:
    town = Town()
    steps = [town.members.complete()]
    town.members.on_pods("knows", [A])
    steps.append(town.members.complete())
    town.members.on_pods("learns", [B])
    steps.append(town.members.complete())
    town.members.on_models(B.id, frozenset({"m"}))
    steps.append(town.members.complete())
    assert steps == [False, False, False, True]


def test_a_pool_without_pods_has_nothing_to_wait_for() -> None:
    town = Town()
    town.members.on_pods("knows", [])
    town.members.on_pods("learns", [])
    assert town.members.complete()


def test_nobody_has_to_listen() -> None:
    async def run() -> None:
        town = Town()
        town.members.health = None
        town.members.on_pods("learns", [A, C])
        assert town.routable("learns") == ["p1", "p3"]

    asyncio.run(run())


MANY = [Pod(PodId(f"m{number}"), f"10.1.{number // 250}.{number % 250}:80") for number in range(400)]


def test_a_large_change_takes_several_turns_of_the_loop_and_the_latest_truth_wins() -> None:
    async def change() -> list[int]:
        town = Town()
        sizes = [0]

        async def turn() -> None:
            sizes.append(len(town.routable("knows")))
            await asyncio.sleep(0)

        town.members.on_pods("knows", MANY[:300])
        while "knows" not in town.members.known:
            await turn()
        await turn()
        assert town.routable("knows") == [each.id for each in MANY[:300]]
        town.members.on_pods("knows", MANY[100:])
        await turn()
        town.members.on_pods("knows", [A])  # the change to the 300 others is still under way
        while town.routable("knows") != [A.id]:
            await turn()
        return sizes

    sizes = asyncio.run(change())
    assert len(sizes) > 10
    steps = [abs(after - before) for before, after in pairwise(sizes)]
    assert 0 < max(steps) <= MOST_AT_ONCE
    assert min(sizes[1:]) > 0, "no pool runs empty on the way"


def test_a_large_change_is_told_by_one_line(caplog: pytest.LogCaptureFixture) -> None:
    async def change() -> None:
        town = Town()
        with caplog.at_level(logging.INFO, "turnout.membership"):
            town.members.on_pods("knows", MANY[:300])
            await town.arrived("knows")

    asyncio.run(change())
    assert [each.getMessage() for each in caplog.records] == ["pool knows: 300 pods (300 new, 0 gone)"]


def test_pods_that_another_pool_has_end_a_change_under_way() -> None:
    async def change() -> None:
        town = Town()
        town.members.on_pods("learns", [MANY[-1]])
        town.members.on_pods("knows", MANY)
        for _ in range(2 * len(MANY) // MOST_AT_ONCE):
            await asyncio.sleep(0)
        assert town.members.known == {"learns"}
        town.members.on_pods("knows", [A])
        await town.arrived("knows")
        assert town.routable("knows") == [A.id]

    asyncio.run(change())


def test_a_restart_gives_a_pod_its_trust_back_and_counters_take_it_where_answers_do_not_say() -> None:
    town = Town()
    prefix_accuracy = PrefixAccuracy(town.prefix.set_trust)
    members = PodRegistry(town.view, town.prefix, town.routes, town.upstream, town.metrics, prefix_accuracy)
    members.on_pods("learns", [A])
    prefix_accuracy.unjudged(A.id, 1, 1)
    members.on_report(A.id, EngineReport(prefix_queries_tokens=0, prefix_hits_tokens=0), 0.0)
    prefix_accuracy.unjudged(A.id, 100_000, 100_000)
    members.on_report(A.id, EngineReport(prefix_queries_tokens=200_000, prefix_hits_tokens=0), 0.0)
    assert prefix_accuracy.pods[A.id].trust < 1.0
    members.on_restart(A.id)
    assert prefix_accuracy.pods[A.id].trust == 1.0


def test_what_was_learned_of_a_pod_goes_with_it_also_where_its_last_answer_came_after() -> None:
    town = Town()
    prefix_accuracy = PrefixAccuracy(town.prefix.set_trust)
    members = PodRegistry(town.view, town.prefix, town.routes, town.upstream, town.metrics, prefix_accuracy)
    members.on_pods("learns", [A, B])
    prefix_accuracy.judge(A.id, 1000, 1000)
    prefix_accuracy.judge(B.id, 1000, 1000)
    members.on_pods("learns", [B])
    assert set(prefix_accuracy.pods) == {B.id}
    prefix_accuracy.judge(A.id, 1000, 1000)
    members.forget_strangers()
    assert set(prefix_accuracy.pods) == {B.id}
