"""A server of streams for a block: what a test makes of each connection, and an end whatever the peers do."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

from loadtests.sim.ports import HOST

Handle = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Coroutine[Any, Any, None]]


@contextlib.asynccontextmanager
async def stream_server(handle: Handle, *, port: int = 0, tls: ssl.SSLContext | None = None) -> AsyncIterator[int]:
    """Its port. Each connection is `handle`'s until that returns, and is closed then; at the end of the block all that
    are open are broken off. What `handle` raises is raised there, but for peers that have gone."""
    open_now: dict[asyncio.Task[None], asyncio.StreamWriter] = {}
    mistakes: list[BaseException] = []

    async def accepted(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        if not server.is_serving():  # the connection came as the block ended
            writer.transport.abort()
            return
        open_now[task] = writer
        try:
            await handle(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        except Exception as error:  # noqa: BLE001  raised again where the block ends
            mistakes.append(error)
        finally:
            del open_now[task]
            writer.close()

    server = await asyncio.start_server(accepted, HOST, port, ssl=tls)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        ending = dict(open_now)
        for task, writer in ending.items():
            writer.transport.abort()
            task.cancel()
        await asyncio.gather(*ending)
        await asyncio.sleep(0)  # the protocols learn that their connections are lost
    for mistake in mistakes:
        raise mistake
