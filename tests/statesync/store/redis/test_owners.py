"""The owners of ids in a real Redis."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterator
from typing import Any

import pytest

from schedulers.types import PodId
from statesync.owners import key_of
from statesync.store.redis import owners
from statesync.store.redis.connection import RespConnection, ServerAddress
from statesync.store.redis.keys import RedisKeys
from statesync.store.redis.owners import SharedOwners
from tests.fakes.redis_server import RedisServer, redis_server

A = PodId("a")
KEYS = RedisKeys("ns")


@pytest.fixture(scope="module")
def redis() -> Iterator[RedisServer]:
    with redis_server() as server:
        yield server


def play(redis: RedisServer, scene: Any) -> None:
    async def run() -> None:
        link = await RespConnection.open(ServerAddress("127.0.0.1", redis.port), timeout_s=60.0, name="test")
        try:
            await link.call("FLUSHALL")
            scened: Coroutine[Any, Any, None] = scene(link, SharedOwners(KEYS))
            await scened
        finally:
            link.close()

    asyncio.run(run())


def test_a_note_is_read_by_the_next_command_of_any_replica(redis: RedisServer) -> None:
    async def scene(link: RespConnection, shared: SharedOwners) -> None:
        shared.note(link, key_of("resp_1"), A)
        assert await shared.look(link, key_of("resp_1")) == A
        assert await shared.look(link, key_of("resp_2")) is None

    play(redis, scene)


def test_two_generations_are_kept(redis: RedisServer, monkeypatch: pytest.MonkeyPatch) -> None:
    async def scene(link: RespConnection, shared: SharedOwners) -> None:
        for number in range(95):
            shared.note(link, key_of(f"resp_{number}"), A)
        found = [await shared.look(link, key_of(f"resp_{number}")) for number in range(95)]
        assert found[80:] == [A] * 15
        assert found[:70] == [None] * 70
        assert await link.call("HLEN", KEYS.owners) == 5
        assert await link.call("HLEN", KEYS.owners_old) == 10
        assert int(await link.call("PTTL", KEYS.owners)) > 0
        assert int(await link.call("PTTL", KEYS.owners_old)) > 0

    monkeypatch.setattr(owners, "_LIMITS", (10, 60_000))
    play(redis, scene)


@pytest.mark.parametrize("kind", [("SET", "x"), ("RPUSH", "x"), ("SADD", "x")])
def test_a_key_of_another_type_is_ignored_and_replaced(redis: RedisServer, kind: tuple[str, str]) -> None:
    async def scene(link: RespConnection, shared: SharedOwners) -> None:
        for key in (KEYS.owners, KEYS.owners_old):
            await link.call(kind[0], key, kind[1])
        assert await shared.look(link, key_of("resp_1")) is None
        shared.note(link, key_of("resp_1"), A)
        assert await shared.look(link, key_of("resp_1")) == A
        await link.call("HSET", KEYS.owners, key_of("resp_2"), b"\xff\xfe")
        assert await shared.look(link, key_of("resp_2")) is None

    play(redis, scene)
