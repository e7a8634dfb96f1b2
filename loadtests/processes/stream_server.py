"""A stream server for a block: a test handles each connection, and the server stops whatever the peers do."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import Any

from loadtests.sim.ports import HOST

Handle = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Coroutine[Any, Any, None]]


@contextlib.asynccontextmanager
async def stream_server(
    handle: Handle, *, host: str = HOST, port: int = 0, tls: ssl.SSLContext | None = None, socket: Path | None = None
) -> AsyncIterator[int]:
    """Gives the port; with `socket` the server is a unix socket at that path, and the port 0. `handle` serves each
    connection, which is closed when it returns; at the end all open connections are aborted. Exceptions of `handle` are
    raised there, except for disconnected peers."""
    open_now: dict[asyncio.Task[None], asyncio.StreamWriter] = {}
    failures: list[BaseException] = []

    async def accepted(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        if not server.is_serving():  # the connection was accepted as the block ended
            writer.transport.abort()
            return
        open_now[task] = writer
        try:
            await handle(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        except Exception as error:  # noqa: BLE001  raised again where the block ends
            failures.append(error)
        finally:
            del open_now[task]
            writer.close()

    if socket is not None:
        server = await asyncio.start_unix_server(accepted, socket)
    else:
        server = await asyncio.start_server(accepted, host, port, ssl=tls)
    try:
        yield 0 if socket is not None else server.sockets[0].getsockname()[1]
    finally:
        server.close()
        ending = dict(open_now)
        for task, writer in ending.items():
            writer.transport.abort()
            task.cancel()
        await asyncio.gather(*ending)
        await asyncio.sleep(0)  # `connection_lost` of the protocols is called
    for failure in failures:
        raise failure
