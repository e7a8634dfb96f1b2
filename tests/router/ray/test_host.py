from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from itertools import count

from router.ray.arguments import read_arguments
from router.ray.calls import CallMetadata, request_of
from router.ray.host import RayHost, ServeReplica
from schedulers.types import PodId
from statesync.types import EngineReport
from tests.fakes.virtual_time import Clock
from tests.fakes.waiting import until

A, B = PodId("a"), PodId("b")
CALL = request_of([{"prompt": "word " * 400}], CallMetadata("r", "s"))


def host(**arguments: object) -> RayHost:
    bits = count(1)
    return RayHost(read_arguments(arguments), "Engine", clock=Clock(), rng=lambda: next(bits))


def pod_of(host: RayHost) -> str:
    exchange = host.choose(CALL)
    assert exchange.placement is not None
    return exchange.placement.pod.id


def test_calls_go_to_the_replicas_that_run() -> None:
    deciding = host(policy="round_robin")
    deciding.set_replicas([ServeReplica(A), ServeReplica(B)])
    assert {pod_of(deciding), pod_of(deciding)} == {A, B}
    deciding.set_replicas([ServeReplica(B)])
    assert [pod_of(deciding) for _ in range(3)] == [B, B, B]


def test_no_replica_with_room_leaves_a_call_without_a_placement() -> None:
    deciding = host(policy="least_load")
    assert deciding.choose(CALL).placement is None
    deciding.set_replicas([ServeReplica(A, max_ongoing=1)])
    first, second = deciding.choose(CALL), deciding.choose(CALL)
    assert second.placement is None
    deciding.ended(first, 200)
    deciding.choose_again(second)
    assert second.placement is not None


def test_a_replica_that_refused_is_not_chosen_again_at_once() -> None:
    deciding = host(policy="least_load")
    deciding.set_replicas([ServeReplica(A), ServeReplica(B)])
    exchange = deciding.choose(CALL)
    assert exchange.placement is not None
    before = exchange.placement.pod.id
    deciding.choose_again(exchange)
    assert {before, exchange.placement.pod.id} == {A, B}


def test_what_replicas_say_of_other_routers_calls_counts() -> None:
    deciding = host(policy="least_load")
    deciding.set_replicas([ServeReplica(A), ServeReplica(B)])
    deciding.ongoing(A, 100)
    assert [pod_of(deciding) for _ in range(4)] == [B] * 4


def test_statistics_are_read_when_they_change() -> None:
    deciding = host(policy="profile", params={"scorers": [{"name": "kv_usage"}]})
    full = ServeReplica(A, report=EngineReport(queued=0, running=1, kv_usage=0.9))
    deciding.set_replicas([full, ServeReplica(B)])
    deciding.ongoing(A, 0)
    deciding.set_replicas([full, ServeReplica(B, report=EngineReport(kv_usage=0.2))])
    assert pod_of(deciding) == B


def changing(change: Callable[[RayHost], Awaitable[None]]) -> None:
    async def live() -> None:
        deciding = host(policy="p2c")
        deciding.start()
        try:
            await change(deciding)
        finally:
            await deciding.stop()

    asyncio.run(live())


def test_changed_arguments_swap_policy_shadow_and_canary() -> None:
    async def change(deciding: RayHost) -> None:
        first = deciding.status()
        assert (first.policy, first.generation) == ("p2c", 0)
        deciding.apply(read_arguments({"policy": "prefix_aware", "shadow": {"name": "p2c"}}))
        await until(lambda: deciding.status().shadow == "p2c")
        assert (deciding.status().policy, deciding.status().generation) == ("prefix_aware", 2)
        deciding.apply(read_arguments({"policy": "prefix_aware", "canary": {"name": "random", "percent": 20}}))
        await until(lambda: deciding.status().canary == "random 20 %")
        assert deciding.status().shadow == ""
        deciding.apply(read_arguments({"policy": "p2c"}))
        await until(lambda: deciding.status().digest == first.digest and not deciding.status().canary)

    changing(change)


def test_arguments_that_cannot_be_built_change_nothing() -> None:
    async def change(deciding: RayHost) -> None:
        deciding.apply(read_arguments({"policy": "no_such_policy"}))
        deciding.apply(read_arguments({"policy": "round_robin"}))
        await until(lambda: deciding.status().policy == "round_robin")
        assert deciding.status().generation == 1

    changing(change)


def test_routers_that_share_state_follow_one_record() -> None:
    async def change(_: RayHost) -> None:
        shared = {"settings": {"state": "memory://ray-test"}}
        one, other = host(policy="p2c", **shared), host(policy="p2c", **shared)
        one.start()
        other.start()
        try:
            one.apply(read_arguments({"policy": "least_load", **shared}))
            other.apply(read_arguments({"policy": "least_load", **shared}))
            await until(lambda: one.status() == other.status() and one.status().policy == "least_load")
        finally:
            await one.stop()
            await other.stop()

    changing(change)
