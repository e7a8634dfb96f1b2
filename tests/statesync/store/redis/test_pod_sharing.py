"""Replicas on one real server: which pods each has, who is elected for them, and which are of another fleet."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from schedulers.types import Pod, PodId
from statesync.discovery.changes import PodChange
from statesync.store.redis import pod_sharing
from statesync.store.redis.fleets import SETTLE_LEASES
from statesync.store.redis.keys import RedisKeys
from statesync.store.redis.presence import read_pools
from statesync.store.redis.session import RENEWALS
from statesync.store.redis.store import RedisStore
from statesync.types import KnownPod
from tests.fakes.recording_listener import RecordingListener, eventually
from tests.fakes.redis_replicas import RARE, client, pass_renewal, play, replica
from tests.fakes.redis_server import RedisServer
from tests.fakes.virtual_time import real_moment

KEYS = RedisKeys("turnout")
MOST_BEATS = 100
SOON = 200
"""Milliseconds in which a renewal is made unless the machine is busy."""
PODS = [Pod(PodId(f"10.0.0.{at}:8000"), f"10.0.0.{at}:8000") for at in range(100)]


def come(store: RedisStore, pods: list[Pod], pool: str = "chat") -> None:
    store.change_pods(pool, PodChange(come=tuple(pods)))


def elected(store: RedisStore, pods: list[Pod]) -> list[Pod]:
    return [pod for pod in pods if store.elected(pod.id)]


async def beat(*stores: RedisStore) -> None:
    """Advance the time to the next renewal, and wait until each store has made it."""
    before = [store.health().round_trips for store in stores]

    def made() -> bool:
        return all(store.health().round_trips > was for store, was in zip(stores, before, strict=True))

    for _ in range(2):  # a store that did not sleep yet when the time passed sleeps until it passes once more
        pass_renewal(RARE)
        for _ in range(SOON):
            if made():
                return
            await real_moment()
    await eventually(made)


async def beat_until(met: Callable[[], object], *stores: RedisStore) -> None:
    for _ in range(MOST_BEATS):
        if met():
            return
        await beat(*stores)
    raise AssertionError(f"not within {MOST_BEATS} beats")


def test_of_two_fleets_each_replica_is_elected_for_all_of_its_pods_and_both_say_so(
    server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    """Case I 50: the same database and namespace, other pods in an equally named pool."""

    async def scene(
        left: RedisStore, of_left: RecordingListener, right: RedisStore, of_right: RecordingListener
    ) -> None:
        come(left, PODS[:50])
        come(right, PODS[50:])

        def strangers() -> tuple[int, int]:
            return left.health().strangers, right.health().strangers

        await beat_until(
            lambda: elected(left, PODS[:50]) == PODS[:50] and elected(right, PODS[50:]) == PODS[50:], left, right
        )
        assert strangers() == (0, 0), "discovery may show a change to one replica first"
        await beat_until(lambda: strangers() == (1, 1), left, right)
        assert "pool chat has 50 pods here and 50 there" in caplog.text
        assert "sync.namespace" in caplog.text

    play(server, scene, RARE)


def test_replicas_of_one_fleet_divide_their_common_pods_and_keep_their_own(server: RedisServer) -> None:
    """A pod that discovery has shown to one replica only is that one's."""

    async def scene(
        left: RedisStore, of_left: RecordingListener, right: RedisStore, of_right: RecordingListener
    ) -> None:
        common, more = PODS[:50], PODS[50:]
        come(left, PODS)
        come(right, common)

        def divided(pods: list[Pod]) -> bool:
            mine = elected(left, pods)
            return 0 < len(mine) < len(pods) and [pod for pod in pods if pod not in elected(right, pods)] == mine

        await beat_until(lambda: elected(left, more) == more and divided(common), left, right)
        come(right, more)
        await beat_until(lambda: divided(PODS) and divided(more), left, right)
        for _ in range(SETTLE_LEASES * RENEWALS + 2):
            await beat(left, right)
        assert (left.health().strangers, right.health().strangers) == (0, 0)

    play(server, scene, RARE)


def test_a_replica_that_joins_gets_the_verdicts_of_the_others_and_the_keys_go_with_their_replica(
    server: RedisServer,
) -> None:
    """Case I 51."""

    async def scene(
        left: RedisStore, of_left: RecordingListener, right: RedisStore, of_right: RecordingListener
    ) -> None:
        for store in (left, right):
            come(store, PODS)
        for at, pod in enumerate(PODS):
            left.probed(pod.id, at >= 10)
            right.probed(pod.id, at >= 5)
            right.listed(pod.id, b"page")
        with client(server) as admin:
            await beat_until(lambda: admin.exists(KEYS.pods("left")) and admin.exists(KEYS.pods("right")), left, right)
            async with replica(server, "late", RARE) as (_, late):
                assert late.known == {pod.id: KnownPod(at >= 5, b"page") for at, pod in enumerate(PODS)}
            assert 0 < admin.ttl(KEYS.pods("left"))
            await left.aclose()
            assert not admin.exists(KEYS.pods("left"))

    play(server, scene, RARE)


def test_other_work_has_its_turn_between_the_pods_of_two_replicas(
    server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []

    def noted(*read: Any) -> Any:
        seen.append("pods")
        asyncio.get_running_loop().call_soon(seen.append, "other work")
        return read_pools(*read)

    async def scene(
        left: RedisStore, of_left: RecordingListener, right: RedisStore, of_right: RecordingListener
    ) -> None:
        for store in (left, right):
            come(store, PODS)
        with client(server) as admin:
            await beat_until(lambda: admin.exists(KEYS.pods("left")) and admin.exists(KEYS.pods("right")), left, right)
        seen.clear()
        monkeypatch.setattr(pod_sharing, "read_pools", noted)
        async with replica(server, "late", RARE):
            assert seen[:3] == ["pods", "other work", "pods"]

    play(server, scene, RARE)


def test_a_key_of_another_type_is_written_anew(server: RedisServer) -> None:
    async def scene(
        left: RedisStore, of_left: RecordingListener, right: RedisStore, of_right: RecordingListener
    ) -> None:
        come(left, PODS[:2])
        with client(server) as admin:
            await beat_until(lambda: admin.exists(KEYS.pods("left")), left, right)
            admin.delete(KEYS.pods("left"))
            admin.set(KEYS.pods("left"), "x")
            async with replica(server, "late", RARE) as (_, late):
                assert late.known == {}
            left.probed(PODS[0].id, True)
            await beat_until(lambda: admin.type(KEYS.pods("left")) == b"hash", left, right)
            assert left.health().reconnects == 0

    play(server, scene, RARE)
