"""The stream generator over wires of its own making."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any, cast

from loadtests.bench.canned import CHUNKS, STREAM
from loadtests.bench.streams import Opened, Order, StreamClient, run

ORDER = Order("127.0.0.1", 1, ["GET a", "GET b"], 1, 0.0, 0.0, [], [])


class Wire:
    """Keeps what was written."""

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


def test_chunks_are_counted_wherever_the_bytes_were_cut_and_the_next_stream_is_asked_for() -> None:
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


def test_a_bad_status_is_counted_and_the_connection_given_up() -> None:
    opened, client, wire = connected()
    client.data_received(b"HTTP/1.1 503 Service Unavailable\r\n\r\n")
    assert (opened.tally.bad_status, opened.tally.failed, wire.aborted) == (1, 0, True)


def test_a_connection_that_ends_early_is_a_failure_and_made_again() -> None:
    async def talk() -> dict[str, Any]:
        served: list[asyncio.Task[None] | None] = []
        done = asyncio.Event()

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            served.append(asyncio.current_task())
            first = len(served) == 1
            await reader.read(100)
            writer.write(STREAM[0] if first else b"".join(STREAM[:-1]))
            with contextlib.suppress(ConnectionError):
                await writer.drain()
                if not first:
                    await reader.read()
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()
            if not first:
                done.set()

        async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            found = await run(ORDER._replace(port=port, ramp_s=0.0, seconds=0.3))
            await done.wait()
        return found

    found = asyncio.run(asyncio.wait_for(talk(), 30))
    assert found["failed"] == 1
    assert found["bad_status"] == 0
