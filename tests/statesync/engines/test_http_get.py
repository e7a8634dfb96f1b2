"""Reading pages from real servers on loopback that answer correctly, wrongly, late or not at all."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from loadtests.processes.stream_server import stream_server
from loadtests.sim.ports import HOST
from statesync.engines import http_get as pages_module
from statesync.engines.access import PoolAccess, fixed_key
from statesync.engines.http_get import Absent, HttpGetter, Unreadable, read_page
from statesync.errors import DiscoveryError
from tests.fakes.engine_pages import Page, engine, refusing
from tests.fakes.waiting import DEADLINE_S

OK = b"HTTP/1.1 200 OK\r\n"

Say = Callable[[int, asyncio.StreamWriter], Awaitable[None]]
"""Answers the n-th request of a connection."""


class Talker:
    """A server that answers each request with `say`."""

    def __init__(self, say: Say) -> None:
        self._say = say
        self.heads: list[bytes] = []
        self.connections = 0
        self.ended = asyncio.Queue[int]()
        """For each connection that the other side closed: how many requests it had."""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        asked = 0
        try:
            while True:
                self.heads.append(await reader.readuntil(b"\r\n\r\n"))
                asked += 1
                await self._say(asked, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            self.ended.put_nowait(asked)
        finally:
            writer.close()


def saying(*parts: bytes, close: bool = False) -> Say:
    """Answers every request with the same parts, each in its own turn of the loop."""

    async def say(_: int, writer: asyncio.StreamWriter) -> None:
        for part in parts:
            writer.write(part)
            await asyncio.sleep(0)
        if close:
            writer.close()

    return say


@asynccontextmanager
async def talking(say: Say) -> AsyncIterator[tuple[Talker, str]]:
    talker = Talker(say)
    async with stream_server(talker.serve) as port, asyncio.timeout(DEADLINE_S):
        yield talker, f"{HOST}:{port}"


async def get(say: Say) -> bytes:
    async with talking(say) as (_, address):
        pages = HttpGetter()
        try:
            return await pages.get(address, "/metrics")
        finally:
            pages.close()


def test_pages_of_one_pod_come_over_one_connection_with_any_status() -> None:
    async def story() -> None:
        async with engine() as a:
            a.pages = {"/metrics": Page(body=b"m" * 50_000), "/v1/models": Page(body=b"")}
            pages, access = HttpGetter(), PoolAccess(key=fixed_key("k"))
            assert await pages.get(a.pod.address, "/metrics", access) == b"m" * 50_000
            with pytest.raises(Absent, match="status 404"):
                await pages.get(a.pod.address, "/nothing", access)
            assert await pages.get(a.pod.address, "/v1/models", access) == b""
            pages.close()
            assert a.connections == 1
            assert a.headers["host"] == a.pod.address
            assert a.headers["authorization"] == "Bearer k"

    asyncio.run(story())


@pytest.mark.parametrize(
    ("say", "page"),
    [
        (saying(OK, b"content-length: 4\r\n\r\npa", b"ge"), b"page"),
        (saying(OK, b"transfer-encoding: chunked\r\n\r\n2\r\npa\r\n", b"2\r\nge\r\n0\r\n\r\n"), b"page"),
        (saying(OK, b"\r\npa", b"ge", close=True), b"page"),
        (saying(b"HTTP/1.0 200 OK\r\n\r\npage", close=True), b"page"),
        (saying(b"HTTP/1.1 100 Continue\r\n\r\n", OK, b"content-length: 4\r\n\r\npage"), b"page"),
    ],
    ids=["counted", "chunked", "until the end", "HTTP/1.0", "after a 100"],
)
def test_a_page_is_read_with_each_way_to_mark_its_end(say: Say, page: bytes) -> None:
    assert asyncio.run(get(say)) == page


@pytest.mark.parametrize(
    ("say", "error", "word"),
    [
        (saying(b"hello\r\n\r\n"), Unreadable, "no HTTP"),
        (saying(b"HTTP/1.1 101 Other\r\nconnection: upgrade\r\nupgrade: x\r\n\r\n"), Unreadable, "no HTTP"),
        (saying(b"HTTP/1.1 302 Found\r\ncontent-length: 0\r\n\r\n"), Unreadable, "status 302"),
        (saying(OK, b"content-length: 2000\r\n\r\n", b"x" * 2000), Unreadable, "more than 1000 bytes"),
        (saying(OK, b"x: " + b"x" * 2000), Unreadable, "more than 1000 bytes"),
        (saying(OK, b"content-length: 4\r\n\r\npa", close=True), ConnectionError, "whole"),
        (saying(OK, close=True), ConnectionError, "whole"),
        (saying(close=True), ConnectionError, "whole"),
    ],
    ids=["not HTTP", "upgrade", "302", "long", "long head", "half a page", "half a head", "nothing"],
)
def test_an_invalid_answer_is_an_error_with_the_reason(
    say: Say, error: type[Exception], word: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pages_module, "MAX_PAGE_BYTES", 1000)
    with pytest.raises(error, match=word):
        asyncio.run(get(say))


def test_a_connection_that_closes_at_the_next_request_is_replaced() -> None:
    async def only_once(asked: int, writer: asyncio.StreamWriter) -> None:
        if asked == 1:
            writer.write(OK + b"content-length: 4\r\n\r\npage")
        else:
            writer.close()

    async def story() -> None:
        async with talking(only_once) as (talker, address):
            pages = HttpGetter()
            for _ in range(3):
                assert await pages.get(address, "/metrics") == b"page"
            pages.close()
            assert talker.connections == 3

    asyncio.run(story())


def test_a_kept_connection_that_breaks_off_half_way_is_an_error() -> None:
    async def half_the_second(asked: int, writer: asyncio.StreamWriter) -> None:
        writer.write(OK + b"content-length: 4\r\n\r\npage"[: None if asked == 1 else -2])
        if asked == 2:
            writer.close()

    async def story() -> None:
        async with talking(half_the_second) as (talker, address):
            pages = HttpGetter()
            assert await pages.get(address, "/metrics") == b"page"
            with pytest.raises(ConnectionError):
                await pages.get(address, "/metrics")
            assert talker.connections == 1

    asyncio.run(story())


def test_a_connection_that_the_server_closes_or_writes_to_unasked_is_not_used_again() -> None:
    async def story(*parts: bytes) -> None:
        async with talking(saying(*parts)) as (talker, address):
            pages = HttpGetter()
            for count in (1, 2):
                assert await pages.get(address, "/metrics") == b"page"
                assert await talker.ended.get() == 1
                assert talker.connections == count

    asyncio.run(story(OK + b"connection: close\r\ncontent-length: 4\r\n\r\npage"))
    asyncio.run(story(OK + b"content-length: 4\r\n\r\npage", b"", b"and more"))
    asyncio.run(story(OK + b"content-length: 4\r\n\r\npage and more"))


def test_an_idle_connection_is_closed_after_its_time_or_with_all_others() -> None:
    async def story() -> None:
        async with talking(saying(OK + b"content-length: 4\r\n\r\npage")) as (talker, address):
            await HttpGetter(keep_s=0.0).get(address, "/metrics")
            assert await talker.ended.get() == 1
            pages = HttpGetter(keep_s=1000.0)
            await pages.get(address, "/metrics")
            pages.close()
            assert await talker.ended.get() == 1

    asyncio.run(story())


def test_a_cancelled_read_closes_its_connection() -> None:
    async def story() -> None:
        half = asyncio.Event()

        async def half_a_page(_: int, writer: asyncio.StreamWriter) -> None:
            writer.write(OK + b"content-length: 4\r\n\r\npa")
            half.set()

        async with talking(half_a_page) as (talker, address):
            getting = asyncio.get_running_loop().create_task(HttpGetter().get(address, "/metrics"))
            await half.wait()
            getting.cancel()
            await asyncio.wait([getting])
            assert getting.cancelled()
            assert await talker.ended.get() == 1

    asyncio.run(story())


def test_an_invalid_address_or_one_without_a_server_is_an_error() -> None:
    async def story(address: str) -> None:
        await HttpGetter().get(address, "/metrics")

    with pytest.raises(ConnectionRefusedError):
        asyncio.run(story(refusing().address))
    with pytest.raises(Unreadable, match="no address"):
        asyncio.run(story("nowhere"))


def test_a_page_of_no_pod_is_read_with_a_token_and_its_faults_are_discoverys(tmp_path: Path) -> None:
    (token := tmp_path / "token").write_text("a1b2\n")
    (broken := tmp_path / "broken").write_text("a\nb")

    async def fault(address: str, path: str, token_file: str = "") -> str:
        with pytest.raises((DiscoveryError, OSError)) as raised:
            await read_page(address, path, token_file)
        return str(raised.value)

    async def scene() -> None:
        async with engine() as head:
            address = head.pod.address
            head.pages = {"/x": Page(200, b"found"), "/shut": Page(401), "/ill": Page(503)}
            assert await read_page(address, "/x", str(token)) == b"found"
            assert head.headers["authorization"] == "Bearer a1b2"
            assert await read_page(address, "/x") == b"found"
            assert "authorization" not in head.headers
            assert await fault(address, "/shut") == "status 401; write ?token_file=FILE"
            assert await fault(address, "/ill") == "status 503"
            assert "several lines" in await fault(address, "/x", str(broken))
            assert "No such file" in await fault(address, "/x", str(tmp_path / "none"))

    asyncio.run(scene())
