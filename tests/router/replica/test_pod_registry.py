"""Pods that join, leave and change: every component with state about pods follows."""

from __future__ import annotations

import asyncio
import logging
from itertools import pairwise

import pytest

from router.replica.pod_registry import MOST_AT_ONCE
from schedulers import registry
from schedulers.types import Pod, PodId, RequestInfo
from statesync.engines.health import Outcome
from tests.fakes.pod_parts import A, B, C, PodFixture


def asking() -> RequestInfo:
    return RequestInfo("r", "m", 300, 100, 0.0, 1, 0)


def test_pods_that_join_are_routable_and_watched() -> None:
    pods = PodFixture()
    pods.registry.on_pods("learns", [A, B])
    assert pods.routable("learns") == ["p1", "p2"]
    assert pods.health.cap("learns") == 1
    assert pods.registry.known == {"learns"}


def test_a_pod_that_left_is_removed_from_every_component() -> None:
    pods = PodFixture()
    pods.registry.on_pods("learns", [A, B])
    pods.lists(A, "m")
    pods.prefix.place(A.id, pods.prefix.chain("m", [b"x" * 4096]))
    pods.idle_connection(A)
    pods.metrics.count_request("learns", "p2c", A.id, 200)
    pods.registry.on_pods("learns", [B])
    assert pods.routable("learns") == ["p2"]
    assert "m" not in pods.routes.models()
    assert pods.prefix.match(pods.prefix.chain("m", [b"x" * 4096])) == {}
    assert pods.upstream.idle == {}
    assert pods.metrics.requests == {}
    assert pods.health.blockers(A.id) == frozenset()


def test_a_pod_that_is_not_ready_is_not_picked_and_keeps_its_state() -> None:
    pods = PodFixture()
    pods.registry.on_pods("learns", [A, B])
    pods.prefix.place(A.id, pods.prefix.chain("m", [b"x" * 4096]))
    charge = pods.view.reserve(A.id, asking())
    pods.registry.on_pods("learns", [A._replace(unready="not_ready"), B])
    assert pods.routable("learns") == ["p2"]
    assert pods.view.status(A.id).blockers == ("not_ready",)
    assert pods.view.status(A.id).load.inflight == 1
    assert set(pods.prefix.match(pods.prefix.chain("m", [b"x" * 4096]))) == {A.id}
    pods.view.release(charge)
    pods.registry.on_pods("learns", [A._replace(unready="terminating"), B])
    assert pods.view.status(A.id).blockers == ("terminating",)
    pods.registry.on_pods("learns", [A, B])
    assert sorted(pods.routable("learns")) == ["p1", "p2"]
    assert set(pods.prefix.match(pods.prefix.chain("m", [b"x" * 4096]))) == {A.id}


def test_a_pod_ejected_and_not_ready_returns_without_ejection_and_does_not_count_towards_the_limit() -> None:
    pods = PodFixture()
    pods.registry.on_pods("learns", [A, B])
    pods.health.outcome(A.id, Outcome.FAILURE, pods.now)
    assert pods.health.cap("learns") == 1
    pods.registry.on_pods("learns", [A._replace(unready="not_ready"), B, C])
    pods.health.outcome(A.id, Outcome.FAILURE, pods.now)
    assert pods.view.status(A.id).blockers == ("not_ready",)
    pods.health.outcome(B.id, Outcome.FAILURE, pods.now)
    assert pods.routable("learns") == ["p3"]
    pods.registry.on_pods("learns", [A, B, C])
    assert sorted(pods.routable("learns")) == ["p1", "p3"]


def test_an_equal_list_of_pods_changes_nothing() -> None:
    pods = PodFixture()
    pods.registry.on_pods("learns", [A, B])
    before = pods.view.snapshot("learns").generation
    pods.registry.on_pods("learns", [A, B])
    assert pods.view.snapshot("learns").generation == before


def test_a_pod_of_another_pool_is_not_added(caplog: pytest.LogCaptureFixture) -> None:
    pods = PodFixture()
    pods.registry.on_pods("knows", [A])
    with caplog.at_level(logging.ERROR, "turnout.pods"):
        pods.registry.on_pods("learns", [A, B])
    assert "learns" in caplog.text
    assert pods.routable("knows") == ["p1"]
    assert pods.registry.known == {"knows"}


def test_it_is_complete_when_each_pool_has_its_pods_and_models() -> None:
    pods = PodFixture()
    steps = [pods.registry.complete()]
    pods.registry.on_pods("knows", [A])
    steps.append(pods.registry.complete())
    pods.registry.on_pods("learns", [B])
    steps.append(pods.registry.complete())
    pods.lists(B, "m")
    steps.append(pods.registry.complete())
    assert steps == [False, False, False, True]


def test_a_pool_without_pods_is_complete() -> None:
    pods = PodFixture()
    pods.registry.on_pods("knows", [])
    pods.registry.on_pods("learns", [])
    assert pods.registry.complete()


MANY = [Pod(PodId(f"m{number}"), f"10.1.{number // 250}.{number % 250}:80") for number in range(400)]


def test_a_large_change_takes_several_turns_of_the_loop_and_the_latest_list_wins() -> None:
    async def change() -> list[int]:
        pods = PodFixture()
        sizes = [0]

        async def turn() -> None:
            sizes.append(len(pods.routable("knows")))
            await asyncio.sleep(0)

        pods.registry.on_pods("knows", MANY[:300])
        while "knows" not in pods.registry.known:
            await turn()
        await turn()
        assert pods.routable("knows") == [each.id for each in MANY[:300]]
        pods.registry.on_pods("knows", MANY[100:])
        await turn()
        pods.registry.on_pods("knows", [A])  # the change to the 300 other pods is still in progress
        while pods.routable("knows") != [A.id]:
            await turn()
        return sizes

    sizes = asyncio.run(change())
    assert len(sizes) > 10
    steps = [abs(after - before) for before, after in pairwise(sizes)]
    assert 0 < max(steps) <= MOST_AT_ONCE
    assert min(sizes[1:]) > 0, "no pool is empty during the change"


def test_a_large_change_is_logged_in_one_line(caplog: pytest.LogCaptureFixture) -> None:
    async def change() -> None:
        pods = PodFixture()
        with caplog.at_level(logging.INFO, "turnout.pods"):
            pods.registry.on_pods("knows", MANY[:300])
            await pods.arrived("knows")

    asyncio.run(change())
    assert [each.getMessage() for each in caplog.records] == ["pool knows: 300 pods (300 new, 0 gone)"]


def test_pods_of_another_pool_end_a_change_in_progress() -> None:
    async def change() -> None:
        pods = PodFixture()
        pods.registry.on_pods("learns", [MANY[-1]])
        pods.registry.on_pods("knows", MANY)
        for _ in range(2 * len(MANY) // MOST_AT_ONCE):
            await asyncio.sleep(0)
        assert pods.registry.known == {"learns"}
        pods.registry.on_pods("knows", [A])
        await pods.arrived("knows")
        assert pods.routable("knows") == [A.id]

    asyncio.run(change())


def of_stateful_set(address: str, uid: str) -> Pod:
    """The pod `agent-0`, at one time in its life."""
    return Pod(PodId("agent-0.llm"), address, labels={"statefulset": "agent", "uid": uid})


def test_case_c11_a_pod_that_comes_back_under_its_name_starts_with_an_empty_cache_and_a_clean_record() -> None:
    pods = PodFixture()
    before, after = of_stateful_set("10.0.0.1:80", "1a"), of_stateful_set("10.0.7.7:80", "2b")
    pods.registry.on_pods("learns", [before, B])
    pods.prefix.place(before.id, pods.prefix.chain("m", [b"x" * 4096]))
    pods.idle_connection(before)
    pods.health.probe(before.id, False, 1.0)
    assert pods.routable("learns") == ["p2"]

    async def replaced() -> None:
        pods.registry.on_pods("learns", [after, B])
        await asyncio.sleep(0)

    asyncio.run(replaced())
    assert sorted(pods.routable("learns")) == ["agent-0.llm", "p2"]
    assert pods.view.pod(after.id).address == "10.0.7.7:80"
    assert pods.prefix.match(pods.prefix.chain("m", [b"x" * 4096])) == {}
    assert pods.upstream.idle == {}
    assert pods.health.blockers(after.id) == frozenset()


def test_case_c11_the_sessions_of_a_stateful_set_s_pod_come_back_to_it() -> None:
    pods = PodFixture()
    policy = registry.create("session_affinity")
    before, after = of_stateful_set("10.0.0.1:80", "1a"), of_stateful_set("10.0.7.7:80", "2b")

    def homes() -> list[str]:
        snapshot = pods.view.snapshot("learns")
        requests = [asking()._replace(session_key=f"s{number}") for number in range(40)]
        return [policy.pick(request, snapshot).pod for request in requests]  # type: ignore[union-attr]

    async def lives() -> tuple[list[str], list[str], list[str]]:
        pods.registry.on_pods("learns", [before, A, B])
        at_first = homes()
        pods.registry.on_pods("learns", [A, B])
        meanwhile = homes()
        pods.registry.on_pods("learns", [A, after, B])
        return at_first, meanwhile, homes()

    at_first, meanwhile, at_last = asyncio.run(lives())
    assert "agent-0.llm" in at_first
    assert "agent-0.llm" not in meanwhile
    assert at_last == at_first
