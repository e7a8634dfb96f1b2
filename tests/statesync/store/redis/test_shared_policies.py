"""Records that a real server lost, holds otherwise, or holds in a key of another type (case I 48)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from schedulers.errors import InvalidParams
from statesync.errors import StaleGeneration
from statesync.store.policy_record import Canary, PolicyChoice
from statesync.store.protocol import POLICY_HISTORY, PolicyRecord
from statesync.store.redis.connection import RespConnection, ServerAddress
from statesync.store.redis.keys import RedisKeys
from statesync.store.redis.messages import MessageDecoder, pack_whole_record
from statesync.store.redis.shared_policies import SharedPolicies
from tests.fakes.redis_replicas import client
from tests.fakes.redis_server import RedisServer, redis_server

KEY = "{turnout}:policy:chat"


@pytest.fixture
def server() -> Iterator[RedisServer]:
    with redis_server() as made:
        yield made


class Side:
    """One replica's policies."""

    def __init__(self, link: RespConnection, name: str) -> None:
        self.link = link
        self.delivered: list[PolicyRecord] = []
        self.policies = SharedPolicies(
            *(name, lambda: "token", RedisKeys("turnout"), MessageDecoder()),
            lambda _, record: self.delivered.append(record),
        )

    async def put(self, name: str, if_generation: int | None = None) -> PolicyRecord:
        return await self.policies.put(self.link, "chat", PolicyRecord(name, {}, 0), if_generation)

    async def read(self) -> list[PolicyRecord]:
        return list(await self.policies.read(self.link, "chat"))


@asynccontextmanager
async def side(server: RedisServer, name: str) -> AsyncIterator[Side]:
    link = await RespConnection.open(ServerAddress("127.0.0.1", server.port), timeout_s=60.0, name=name)
    try:
        yield Side(link, name)
    finally:
        link.close()


def play(server: RedisServer, scene: Callable[[Side, Side, Any], Coroutine[None, None, None]]) -> None:
    async def run() -> None:
        async with side(server, "left") as left, side(server, "right") as right:
            with client(server) as admin:
                await scene(left, right, admin)

    asyncio.run(run())


def names(records: list[PolicyRecord]) -> list[tuple[int, str]]:
    return [(record.generation, record.name) for record in records]


def test_a_record_is_delivered_once_where_it_was_not_set(server: RedisServer) -> None:
    async def scene(left: Side, right: Side, _: Any) -> None:
        first = await left.put("p2c", 0)
        assert await right.read() == await right.read() == await left.read() == [first]
        assert (left.delivered, right.delivered) == ([], [first])
        with pytest.raises(StaleGeneration, match="at generation 1, not 0"):
            await right.put("random", 0)

    play(server, scene)


def test_what_an_emptied_server_or_one_with_an_old_snapshot_lost_is_put_back_and_logged(
    server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    async def scene(left: Side, right: Side, admin: Any) -> None:
        for name in ("p2c", "random", "round_robin"):
            await left.put(name)
        admin.ltrim(KEY, 2, -1)
        assert names(await left.read()) == [(3, "round_robin"), (2, "random"), (1, "p2c")]
        assert "has generation 1, an earlier state: putting back generation 3 (policy round_robin)" in caplog.text
        admin.flushall()
        await left.policies.read_all(left.link)
        assert "has no record, an earlier state: putting back generation 3" in caplog.text
        assert names(await right.read()) == names(await left.read())
        assert admin.smembers("{turnout}:pools") == {b"chat"}
        assert (left.policies.given_up, left.policies.put_back, right.policies.put_back) == (0, 2, 0)

    play(server, scene)


def test_a_record_of_the_same_generation_and_a_lower_one_are_followed_and_reported(
    server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    async def scene(left: Side, right: Side, admin: Any) -> None:
        for name in ("p2c", "random"):
            await left.put(name)
        admin.flushall()
        for name in ("least_load", "round_robin"):
            await right.put(name)
        assert names(await left.read()) == [(2, "round_robin"), (1, "least_load")]
        assert names(left.delivered) == [(2, "round_robin")]
        assert (left.policies.given_up, left.policies.put_back, right.policies.given_up) == (2, 0, 0)
        assert "generation 2 (policy random, " in caplog.text
        admin.flushall()
        admin.rpush(KEY, pack_whole_record(PolicyRecord("random", {}, 1)))
        assert names(await left.read()) == [(1, "random")]
        assert names(await right.read()) == [(1, "random")]

    play(server, scene)


def test_a_change_of_a_record_that_another_of_its_generation_replaced_is_stale(server: RedisServer) -> None:
    async def scene(left: Side, right: Side, admin: Any) -> None:
        await left.put("p2c")
        admin.flushall()
        await right.put("random")
        with pytest.raises(StaleGeneration):
            await left.put("least_load", 1)
        await left.read()
        assert names([await left.put("least_load", 1)]) == [(2, "least_load")]

    play(server, scene)


def test_a_message_s_record_is_used_at_once_if_it_is_the_next_and_put_back_if_the_server_lost_it(
    server: RedisServer,
) -> None:
    async def scene(left: Side, right: Side, admin: Any) -> None:
        first = await left.put("p2c")
        await right.read()
        second = await left.put("random")
        right.policies.suggested("chat", second._replace(generation=7))
        right.policies.suggested("chat", second)
        right.policies.suggested("chat", second)
        assert right.delivered == [first, second]
        admin.lpop(KEY)
        assert await right.read() == [second, first]
        assert admin.llen(KEY) == 2
        assert right.delivered == [first, second]

    play(server, scene)


def test_a_key_of_another_type_is_read_as_lost_and_unreadable_records_as_none(server: RedisServer) -> None:
    async def scene(left: Side, right: Side, admin: Any) -> None:
        admin.set(KEY, "no list")
        assert await right.read() == []
        first = await left.put("p2c")
        admin.lpush(KEY, "{", '{"generation": -1}')
        assert await left.read() == await right.read() == [first]
        assert names([await right.put("random", 1)]) == [(2, "random")]
        admin.set(KEY, "no list")
        assert names(await right.read()) == [(2, "random"), (1, "p2c")]

    play(server, scene)


def test_two_that_put_back_at_once_leave_one_list(server: RedisServer) -> None:
    async def scene(left: Side, right: Side, admin: Any) -> None:
        first = await left.put("p2c")
        await right.read()
        second = await left.put("random")
        admin.flushall()
        assert sorted(map(len, await asyncio.gather(left.read(), right.read()))) in ([1, 2], [2, 2])
        assert await left.read() == await right.read() == [second, first]

    play(server, scene)


def test_parameters_that_no_replica_would_read_are_refused_before_they_are_stored(server: RedisServer) -> None:
    """Case I 49: stored, they would make every later change of the pool stale."""
    deep: dict[str, object] = {}
    for _ in range(40):
        deep = {"a": deep}

    async def scene(left: Side, right: Side, admin: Any) -> None:
        for wanted in (
            PolicyRecord("p2c", deep, 0),
            PolicyRecord("p2c", {}, 0, PolicyChoice("p2c", deep)),
            PolicyRecord("p2c", {}, 0, canary=Canary(PolicyChoice("p2c", deep), 5.0)),
        ):
            with pytest.raises(InvalidParams, match="nested more than 32 deep"):
                await left.policies.put(left.link, "chat", wanted, 0)
        assert admin.llen(KEY) == 0
        assert names([await left.put("p2c", 0)]) == [(1, "p2c")]

    play(server, scene)


def test_lost_records_below_one_that_cannot_be_read_are_tried_once_a_read(
    server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    async def scene(left: Side, right: Side, admin: Any) -> None:
        for name in ("p2c", "random"):
            await left.put(name)
        admin.ltrim(KEY, 1, -1)
        admin.lpush(KEY, b'{"generation":2,"name":7,"params":{}}')
        assert names(await left.read()) == [(2, "random"), (1, "p2c")]
        assert caplog.text.count("putting back") == 1
        assert (left.policies.put_back, admin.llen(KEY)) == (0, 2), "what a later version wrote stays"

    play(server, scene)


def test_a_replica_that_missed_more_changes_than_are_kept_says_that_its_record_may_be_older(
    server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    async def scene(left: Side, right: Side, admin: Any) -> None:
        await left.put("p2c")
        for at in range(POLICY_HISTORY):
            await right.put(("random", "round_robin")[at % 2])
        await left.read()
        assert "generation 1 (policy p2c" in caplog.text
        assert "no record before generation 2 is kept, so it may be just older" in caplog.text

    play(server, scene)
