"""The logs of streams in a real Redis, and in the fake that other tests use in its place."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import pytest

from statesync.errors import StoreUnavailable
from statesync.store.redis.connection import RespConnection, ServerAddress
from statesync.store.redis.keys import RedisKeys
from statesync.store.redis.streams import MOST_READ, SharedStreams
from statesync.streams import FREE, GONE, SAVED, TAKEN, StreamLines, StreamPart, StreamStore
from tests.fakes.memory_streams import MemoryStreams
from tests.fakes.redis_server import RedisServer, redis_server

A, B = "a" * 16, "b" * 16
KEYS = RedisKeys("ns")

Scene = Callable[[StreamStore], Coroutine[Any, Any, None]]
Play = Callable[[Scene], None]


@pytest.fixture(scope="module")
def redis() -> Iterator[RedisServer]:
    with redis_server() as server:
        yield server


def on_redis(redis: RedisServer, scene: Callable[[RespConnection, SharedStreams], Coroutine[Any, Any, None]]) -> None:
    async def run() -> None:
        link = await RespConnection.open(ServerAddress("127.0.0.1", redis.port), timeout_s=60.0, name="test")
        try:
            await link.call("FLUSHALL")
            await scene(link, SharedStreams(KEYS, 60.0, lambda: link))
        finally:
            link.close()

    asyncio.run(run())


@pytest.fixture(params=["redis", "memory"])
def play(request: pytest.FixtureRequest, redis: RedisServer) -> Play:
    if request.param == "redis":
        return lambda scene: on_redis(redis, lambda _, streams: scene(streams))
    return lambda scene: asyncio.run(scene(MemoryStreams()))


def lines(name: str, offset: int, text: bytes) -> StreamLines:
    return StreamLines(name, offset, text, 60.0)


def test_lines_are_written_once_however_often_they_are_sent(play: Play) -> None:
    async def scene(streams: StreamStore) -> None:
        first, second = lines("s", 0, A.encode() + b"one\n"), lines("s", 20, b"two\n")
        for entry in (first, second, first, second, second):
            assert await streams.save(A, [entry]) == [SAVED]
        assert await streams.read([("s", 16), ("s", 20), ("other", 0)]) == [
            StreamPart(A, False, b"one\ntwo\n"),
            StreamPart(A, False, b"two\n"),
            StreamPart("", False, b""),
        ]

    play(scene)


def test_several_logs_are_written_together_and_each_has_its_own_result(play: Play) -> None:
    async def scene(streams: StreamStore) -> None:
        assert await streams.save(B, [lines("theirs", 0, B.encode())]) == [SAVED]
        entries = [lines("new", 0, A.encode()), lines("theirs", 16, b"x\n"), lines("gone", 40, b"x\n")]
        assert await streams.save(A, entries) == [SAVED, TAKEN, GONE]
        assert [part.lines for part in await streams.read([("theirs", 16), ("gone", 0)])] == [b"", b""]

    play(scene)


def test_an_owner_is_replaced_by_compare_and_set(play: Play) -> None:
    async def scene(streams: StreamStore) -> None:
        await streams.save(A, [lines("s", 0, A.encode() + b"one\n")])
        assert await streams.take("s", B, FREE, 16) is None
        assert await streams.take("s", A, B, 16) == b"one\n"
        assert await streams.take("s", A, FREE, 16) is None
        assert await streams.take("none", A, B, 0) is None
        assert await streams.save(A, [lines("s", 20, b"late\n")]) == [TAKEN]
        assert await streams.save(B, [lines("s", 20, b"two\n")]) == [SAVED]

    play(scene)


def test_an_owner_learns_which_of_its_streams_are_read(play: Play) -> None:
    async def scene(streams: StreamStore) -> None:
        await streams.save(A, [lines("s", 0, A.encode()), lines("t", 0, A.encode())])
        assert await streams.read([("s", 0)]) == [StreamPart(A, False, A.encode())]
        assert await streams.beat(A) == []
        assert (await streams.read([("s", 16), ("u", 0)]))[0] == StreamPart(A, True, b"")
        assert await streams.beat(A) == ["s"]
        assert await streams.beat(A) == []

    play(scene)


def test_a_long_log_is_read_in_parts(play: Play) -> None:
    async def scene(streams: StreamStore) -> None:
        await streams.save(A, [lines("s", 0, A.encode() + b"x" * 20_000)])
        (part,) = await streams.read([("s", 100)])
        assert len(part.lines) == MOST_READ

    play(scene)


def test_every_key_expires_and_one_of_another_kind_is_replaced(redis: RedisServer) -> None:
    async def scene(link: RespConnection, streams: SharedStreams) -> None:
        await link.call("SADD", KEYS.stream("s"), "not a log")
        assert await streams.save(A, [lines("s", 16, b"x")]) == [GONE]
        assert await streams.read([("s", 0)]) == [StreamPart("", False, b"")]
        assert await streams.take("s", A, B, 0) is None
        assert await streams.save(A, [lines("s", 0, A.encode())]) == [SAVED]
        await streams.beat(A)
        await streams.read([("s", 0)])
        for key in (KEYS.stream("s"), KEYS.keeper(A), KEYS.followed(A)):
            assert 0 < int(await link.call("PTTL", key)) <= 60_000

    on_redis(redis, scene)


def test_a_server_that_refuses_is_a_store_that_is_away(redis: RedisServer) -> None:
    async def scene(link: RespConnection, streams: SharedStreams) -> None:
        await link.call("CONFIG", "SET", "maxmemory", "1")
        try:
            with pytest.raises(StoreUnavailable):
                await streams.save(A, [lines("s", 0, A.encode())])
        finally:
            await link.call("CONFIG", "SET", "maxmemory", "0")

    on_redis(redis, scene)
