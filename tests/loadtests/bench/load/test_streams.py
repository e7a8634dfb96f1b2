"""The stream generator over fake connections."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest

from loadtests.bench.load import streams
from loadtests.bench.load.canned import CHUNKS, STREAM
from loadtests.bench.load.streams import Opened, Order, StreamClient, run
from loadtests.processes.stream_server import stream_server
from tests.fakes.virtual_time import Clock, pass_time, real_moment, run_on

ORDER = Order("127.0.0.1", 1, ["GET a", "GET b"], 1, 0.0, 0.0, [], [])


class Wire:
    """A transport that keeps the bytes written."""

    def __init__(self) -> None:
        self.written: list[bytes] = []
        self.aborted = False

    def write(self, data: bytes) -> None:
        self.written.append(data)

    def abort(self) -> None:
        self.aborted = True


def connected() -> tuple[Opened, StreamClient, Wire]:
    opened, wire = Opened(ORDER), Wire()
    client = StreamClient(opened)
    client.connection_made(cast(asyncio.Transport, wire))
    return opened, client, wire


def test_chunks_are_counted_however_the_bytes_were_cut_and_the_next_stream_is_requested() -> None:
    whole = b"".join(STREAM)
    for cut in [*range(20, 400), *range(len(whole) - 30, len(whole))]:
        opened, client, wire = connected()
        client.data_received(whole[:cut])
        client.data_received(whole[cut:])
        assert (opened.tally.chunks, opened.tally.answers, opened.tally.failed) == (CHUNKS, 1, 0)
        assert wire.written == [b"GET b", b"GET a"]


def test_a_stream_that_lost_a_chunk_is_a_failure() -> None:
    opened, client, _ = connected()
    client.data_received(b"".join([STREAM[0], *STREAM[2:]]))
    assert (opened.tally.answers, opened.tally.failed) == (1, 1)


def test_a_bad_status_is_counted_and_the_connection_aborted() -> None:
    opened, client, wire = connected()
    client.data_received(b"HTTP/1.1 503 Service Unavailable\r\n\r\n")
    assert (opened.tally.bad_status, opened.tally.failed, wire.aborted) == (1, 0, True)


def test_a_connection_that_ends_early_is_a_failure_and_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "AGAIN_S", 0.0)

    async def talk() -> dict[str, Any]:
        served, second = 0, asyncio.Event()

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal served
            served += 1
            await reader.read(100)
            writer.write(STREAM[0] if served == 1 else b"".join(STREAM[:-1]))
            if served > 1:
                second.set()
                await reader.read()

        async with stream_server(serve) as port:
            running = asyncio.get_running_loop().create_task(run(ORDER._replace(port=port, seconds=60.0)))
            await second.wait()
            while not running.done():
                pass_time(60.0)
                await real_moment()
            return await running

    found = run_on(Clock(), talk())
    assert (found["failed"], found["bad_status"]) == (1, 0)
