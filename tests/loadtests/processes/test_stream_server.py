"""The stream server stops whatever its peers do, and reports an error in a test's handler."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from loadtests.processes.stream_server import Handle, stream_server
from loadtests.sim.ports import HOST


async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await asyncio.Event().wait()


async def flooding(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while True:
        writer.write(bytes(1 << 20))
        await writer.drain()


@pytest.mark.parametrize("handle", [silent, flooding])
def test_it_stops_while_a_peer_stays_connected_and_reads_nothing(
    handle: Handle,
) -> None:
    async def story() -> None:
        async with stream_server(handle) as port:
            _, writer = await asyncio.open_connection(HOST, port)
            await asyncio.sleep(0.01)
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()

    asyncio.run(asyncio.wait_for(story(), 60))


def test_a_disconnected_peer_is_not_an_error_and_any_other_exception_is() -> None:
    async def reads_ten(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(10)
        raise RuntimeError("a mistake")

    async def story(said: bytes) -> None:
        async with stream_server(reads_ten) as port:
            reader, writer = await asyncio.open_connection(HOST, port)
            writer.write(said)
            writer.write_eof()
            assert await reader.read() == b""
            writer.close()

    asyncio.run(story(b"five?"))
    with pytest.raises(RuntimeError, match="a mistake"):
        asyncio.run(story(b"ten or so."))
