"""Checkpoints on a real server: they are written whole or not at all, and read together with the log after them."""

from __future__ import annotations

import asyncio
from array import array
from collections.abc import Callable, Coroutine, Iterable, Iterator

import pytest

from schedulers.types import PodId
from statesync.store.redis.checkpoints import PAGES, Checkpoints
from statesync.store.redis.connection import RespConnection, ServerAddress
from statesync.store.redis.keys import RedisKeys
from statesync.store.redis.lease import LiveReplicas
from statesync.store.redis.messages import LogEntry, PlacementMessage, pack, pack_blocks
from statesync.store.redis.placement_log import parse_id
from statesync.store.redis.receiver import UpdateReceiver
from statesync.store.redis.view_age import ViewAge
from statesync.types import PrefixPage
from tests.fakes.recording_listener import RecordingListener
from tests.fakes.redis_server import RedisServer, redis_server
from tests.fakes.waiting import DEADLINE_S

A = PodId("a")
KEYS = RedisKeys("turnout")


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    with redis_server() as running:
        yield running


def page(*hashes: int) -> PrefixPage:
    return PrefixPage(A, array("Q", hashes).tobytes(), bytes(len(hashes)))


class Scene:
    """A replica that only writes or reads checkpoints."""

    def __init__(self, link: RespConnection) -> None:
        self.link = link
        self.listener = RecordingListener()
        self.receiver = UpdateReceiver(
            "me", self.listener, LiveReplicas("me", 5.0), ViewAge(0.0), asyncio.get_running_loop().time
        )
        self.checkpoints = Checkpoints(KEYS, self.receiver)

    async def log(self, block: int) -> str:
        entry = pack(LogEntry(1, "other", "t", [PlacementMessage(A, pack_blocks([block]))]))
        log_id: bytes = await self.link.call("XADD", KEYS.log, "*", "b", entry)
        return log_id.decode()

    async def read(self) -> None:
        self.receiver.log.behind()
        await self.checkpoints.catch_up(self.link)

    async def write(self, name: str, pages: Iterable[PrefixPage], every_s: float = 0.0) -> bool:
        return await self.checkpoints.write(self.link, lambda: pages, name, every_s)


def play(server: RedisServer, scene: Callable[[Scene, Scene], Coroutine[None, None, None]]) -> None:
    async def run() -> None:
        link = await RespConnection.open(ServerAddress("127.0.0.1", server.port), timeout_s=DEADLINE_S, name="test")
        await link.call("FLUSHALL")
        await scene(Scene(link), Scene(link))
        link.close()

    asyncio.run(run())


def test_a_replica_that_starts_reads_all_pages_in_order_and_then_the_log_after_them(server: RedisServer) -> None:
    async def scene(writer: Scene, reader: Scene) -> None:
        for block in (1, 2):
            await writer.log(block)
        await writer.read()
        pages = [page(n, n + 1) for n in range(3 * PAGES + 1)]
        assert await writer.write("first", pages)
        await writer.log(3)
        await reader.read()
        assert reader.listener.restored_pages == pages
        assert reader.listener.placed == [(A, (3,))]

    play(server, scene)


def test_a_replica_that_was_away_reads_only_the_log_while_it_reaches_back_far_enough(server: RedisServer) -> None:
    async def scene(writer: Scene, reader: Scene) -> None:
        await reader.read()
        await writer.log(1)
        await writer.read()
        await reader.read()
        await writer.log(2)
        await reader.read()
        assert reader.listener.placed == [(A, (1,)), (A, (2,))]
        await writer.log(3)
        await writer.read()
        await writer.write("first", [page(1, 2, 3)])
        await writer.log(4)
        assert await writer.link.call("XLEN", KEYS.log) == 2
        await reader.read()
        assert reader.listener.restored_pages == [page(1, 2, 3)]
        assert reader.listener.placed[2:] == [(A, (4,))]

    play(server, scene)


def test_one_replica_writes_at_a_time_and_not_again_soon(server: RedisServer) -> None:
    async def scene(one: Scene, other: Scene) -> None:
        await one.log(1)
        await one.link.call("SET", KEYS.lock, "another", "PX", 60_000)
        assert not await one.write("first", [page(1)])
        await one.link.call("DEL", KEYS.lock)
        assert await one.write("second", [page(1)])
        assert not await other.write("third", [page(1)], every_s=60.0)
        assert await other.checkpoints.position(other.link) == ("second", (0, 0))

    play(server, scene)


def test_a_checkpoint_whose_lock_was_lost_leaves_the_old_one_and_no_pages(server: RedisServer) -> None:
    async def scene(one: Scene, other: Scene) -> None:
        assert await one.write("first", [page(1)])

        def pages() -> Iterator[PrefixPage]:
            yield page(2)
            writing = other.link.send(b"*2\r\n$3\r\nDEL\r\n$14\r\n{turnout}:lock\r\n")
            assert not writing.done()
            yield page(3)

        assert not await other.write("second", pages())
        assert (await one.checkpoints.position(one.link))[0] == "first"
        assert not await one.link.call("EXISTS", KEYS.pages("second"))
        await other.read()
        assert other.listener.restored_pages == [page(1)]

    play(server, scene)


def test_a_checkpoint_switched_while_it_is_being_read_is_read_again(
    server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scene(writer: Scene, reader: Scene) -> None:
        await writer.log(1)
        await writer.read()
        await writer.write("first", [page(1)] * (20 * PAGES))  # many pages for the reader
        await writer.log(2)
        await writer.read()
        switched: list[asyncio.Task[bool]] = []

        def restored(restoring: PrefixPage) -> None:
            if not switched:
                switched.append(asyncio.get_running_loop().create_task(writer.write("second", [page(1, 2)])))
            RecordingListener.restored(reader.listener, restoring)

        monkeypatch.setattr(reader.listener, "restored", restored)
        await reader.read()
        assert await switched[0]
        assert reader.listener.restored_pages[-1] == page(1, 2)

    play(server, scene)


def test_after_a_server_was_set_back_its_log_is_read_from_its_end(server: RedisServer) -> None:
    async def scene(writer: Scene, reader: Scene) -> None:
        await writer.log(1)
        await reader.read()
        assert reader.receiver.log.folded > parse_id("1-0")
        await writer.link.call("DEL", KEYS.log)
        await writer.link.call("XADD", KEYS.log, "5-0", "b", pack(LogEntry(1, "other", "t", [])))
        await reader.read()
        assert reader.receiver.log.folded == (5, 0)

    play(server, scene)


def test_writing_and_reading_let_other_tasks_run_in_between(server: RedisServer) -> None:
    async def scene(writer: Scene, reader: Scene) -> None:
        turns = 0

        async def others() -> None:
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0)

        running = asyncio.get_running_loop().create_task(others())
        big = [page(*range(n, n + 4096)) for n in range(100)]
        await writer.write("big", big)
        assert turns > len(big) * len(big[0].hashes) // 300_000
        turns = 0
        await reader.read()
        assert turns > len(big) // PAGES
        running.cancel()

    play(server, scene)
