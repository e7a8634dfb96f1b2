"""GET of a pod's pages beside its API, on a connection of its own that is kept for a while.

Written by hand: httpx takes 3 ms of the event loop for a page and leaves garbage cycles, whose collection stops the
loop for 30 ms at a time; this takes a tenth. Speaks HTTP/1.x and does not know the content of the pages.
"""

from __future__ import annotations

import asyncio
import ssl
from functools import lru_cache
from typing import Final, cast

import httptools

from statesync.engines.access import PLAIN, PoolAccess, followed_key
from statesync.engines.tls import reason_of
from statesync.errors import DiscoveryError

MAX_PAGE_BYTES: Final = 8 * 2**20
"""Most bytes of an answer, its head included."""
KEEP_S: Final = 4.0
"""Seconds that an idle connection is kept: less than vLLM's (uvicorn's) 5 s, so that it is closed on this side."""

_HEADERS: Final = "accept: */*\r\naccept-encoding: identity\r\n"
ABSENT: Final = frozenset((404, 405, 501))
"""Statuses of a server that has no such page. llama.cpp answers 501 for metrics that are turned off."""
LOCKED: Final = frozenset((401, 403))
"""Statuses of a server that wants a key, or another one."""


class Unreadable(Exception):
    """The answer is not the page."""

    def __init__(self, message: str, status: int = 0) -> None:
        """`status` is that of an answer other than 200; 0 where there was none."""
        super().__init__(message)
        self.status = status


class Absent(Unreadable):
    """The pod has no such page."""


class HttpGetter:
    """Reads pods' pages; keeps at most one idle connection to each."""

    def __init__(self, *, keep_s: float = KEEP_S) -> None:
        """Opens nothing."""
        self._keep_s = keep_s
        self._idle: dict[str, tuple[_Connection, asyncio.TimerHandle]] = {}

    async def get(self, address: str, path: str, access: PoolAccess = PLAIN) -> bytes:
        """The page at this path, which may begin with another port, as in `:8002/metrics`. There is no time limit; a
        cancellation closes the connection.

        Raises Unreadable, also for any other answer than 200, and OSError.
        """
        try:
            address, target = access.page(address, path)
        except ValueError as error:
            raise Unreadable(f"no address: {error}") from None
        head = f"GET {target} HTTP/1.1\r\nhost: {access.host_of(address)}\r\n{_HEADERS}{access.own()}\r\n"
        request = head.encode("latin-1")
        kept = self._take(address)
        if kept is not None:
            try:
                return await self._ask(kept, address, request)
            except ConnectionError:
                if kept.answered:
                    raise
                # The pod closed the idle connection at this very moment: try a new one.
        return await self._ask(await _connect(access, address), address, request)

    def close(self) -> None:
        """Close the idle connections."""
        for address in list(self._idle):
            self._drop(address)

    async def _ask(self, connection: _Connection, address: str, request: bytes) -> bytes:
        try:
            status, page = await connection.ask(request)
        except ssl.SSLError as error:
            raise Unreadable(f"no TLS connection: {reason_of(error)}") from None
        finally:
            if connection.reusable:
                self._keep(address, connection)
            else:
                connection.abort()
        if status in ABSENT:
            raise Absent(f"status {status}", status)
        if status != 200:
            advice = "; set upstream.api_key_file or api_key_env of its pool" if status in LOCKED else ""
            raise Unreadable(f"status {status}{advice}", status)
        return page

    def _keep(self, address: str, connection: _Connection) -> None:
        self._drop(address)
        timer = asyncio.get_running_loop().call_later(self._keep_s, self._drop, address)
        self._idle[address] = connection, timer

    def _take(self, address: str) -> _Connection | None:
        """An idle connection that is still open."""
        connection, timer = self._idle.pop(address, (None, None))
        if timer is not None:
            timer.cancel()
        return connection if connection is not None and connection.reusable else None

    def _drop(self, address: str) -> None:
        if (connection := self._take(address)) is not None:
            connection.abort()


async def _connect(access: PoolAccess, address: str) -> _Connection:
    connection = _Connection()
    try:
        await access.connect(lambda: connection, address)
    except ssl.SSLError as error:
        raise Unreadable(f"no TLS connection: {reason_of(error)}") from None
    except ValueError as error:
        raise Unreadable(f"no address: {address!r}: {error}") from None
    return connection


async def read_page(address: str, path: str, token_file: str = "") -> bytes:
    """A page of a server that is no pod, such as Ray's dashboard; see `ReadPage`."""
    pages = HttpGetter()
    try:
        return await pages.get(address, path, _access_by(token_file))
    except Unreadable as error:
        advice = f"status {error.status}; write ?token_file=FILE" if error.status in LOCKED else str(error)
        raise DiscoveryError(advice) from None
    except ValueError as error:
        raise DiscoveryError(f"token_file {token_file!r}: {error}") from None
    finally:
        pages.close()


@lru_cache(64)
def _access_by(token_file: str) -> PoolAccess:
    return PoolAccess(key=followed_key(token_file)) if token_file else PLAIN


class _Connection(asyncio.Protocol):
    """One answer at a time. The methods from `on_message_begin` on are called by httptools."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._parser: httptools.HttpResponseParser | None = httptools.HttpResponseParser(self)
        self._answer: asyncio.Future[tuple[int, bytes]] | None = None
        self._body: list[bytes] = []
        self._size = 0
        self._ends = False
        """Whether the head gives the end of the body; otherwise it ends with the connection."""
        self._status = 0
        """Status of the current answer; 0 before its head is complete."""
        self.answered = False
        """Whether a byte of the last answer has arrived."""
        self.reusable = False
        """Whether it may carry another request."""

    def ask(self, request: bytes) -> asyncio.Future[tuple[int, bytes]]:
        """Status and body of the answer. Raises Unreadable and ConnectionError."""
        answer = self._answer = asyncio.get_running_loop().create_future()
        self._size = self._status = 0
        self.answered = self.reusable = False
        if self._transport is None or self._transport.is_closing():
            self._fail(ConnectionResetError("closed before the request"))
        else:
            self._transport.write(request)
        return answer

    def abort(self) -> None:
        """Close at once."""
        self.reusable = False
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports do not descend from asyncio's: no isinstance here.
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self._size += len(data)
        if self._answer is None or self._parser is None:
            self.abort()  # data without a request
            return
        self.answered = True
        if self._size > MAX_PAGE_BYTES:
            self._fail(Unreadable(f"more than {MAX_PAGE_BYTES} bytes"))
            return
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            self._fail(Unreadable(f"no HTTP: {error}"))
            self.abort()  # also if the answer was complete before

    def connection_lost(self, exc: Exception | None) -> None:
        if self._status >= 200 and not self._ends and exc is None:
            self._settle()
        self._fail(exc if isinstance(exc, OSError) else ConnectionResetError("closed before the answer was whole"))
        self.reusable = False
        self._parser = self._transport = None  # they refer to this object: a cycle

    def on_message_begin(self) -> None:
        self._body.clear()
        self._status = 0
        self._ends = False

    def on_header(self, name: bytes, value: bytes) -> None:
        self._ends |= name.lower() in (b"content-length", b"transfer-encoding")

    def on_headers_complete(self) -> None:
        if self._parser is not None:
            self._status = self._parser.get_status_code()

    def on_body(self, body: bytes) -> None:
        self._body.append(body)

    def on_message_complete(self) -> None:
        if self._status >= 200 and self._parser is not None:  # below 200 the answer is still to come
            self.reusable = self._parser.should_keep_alive()
            self._settle()

    def _settle(self) -> None:
        answer, self._answer = self._answer, None
        if answer is not None and not answer.done():
            answer.set_result((self._status, b"".join(self._body)))
        self._body.clear()

    def _fail(self, error: Exception) -> None:
        answer, self._answer = self._answer, None
        if answer is not None and not answer.done():
            answer.set_exception(error)
