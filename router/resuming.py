"""A transport for httpx, and so for OpenAI's SDK, whose streams outlive the replica that serves them: after a broken
connection it sends the request again with `Last-Event-ID`, and goes on where the stream stopped. Needs pools with
`failover.resume`; without event ids an answer is passed on as it is. Knows nothing else of the gateway.

    client = OpenAI(base_url=..., http_client=httpx.Client(transport=ResumingTransport()))
    client = AsyncOpenAI(base_url=..., http_client=httpx.AsyncClient(transport=AsyncResumingTransport()))
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator, Iterator
from typing import Final

import httpx

ATTEMPTS: Final = 10
"""Times that a broken stream is asked for, without any byte of it in between."""

_PAUSE_S: Final = 0.1
_MOST_PAUSE_S: Final = 2.0
_RETRIED: Final = frozenset((429, 502, 503, 504))
_BROKEN: Final = (httpx.NetworkError, httpx.RemoteProtocolError, httpx.ReadTimeout)
"""How a connection ends whose replica has died. A client that closes it gets none of these."""
_UNREACHED: Final = (*_BROKEN, httpx.ConnectTimeout)

_ID: Final = re.compile(rb"(?:^|[\r\n])id: ?([^\r\n]*)")
_EVENT_ENDS: Final = (b"\n\n", b"\r\n\r\n", b"\r\r")


class WholeEvents:
    """Lets whole events through, and knows the id of the last one."""

    def __init__(self) -> None:
        self.last_id = b""
        self._rest = b""

    def feed(self, data: bytes) -> bytes:
        """The events that are whole now."""
        data = self._rest + data
        end = max(data.rfind(mark) + len(mark) if mark in data else 0 for mark in _EVENT_ENDS)
        whole, self._rest = data[:end], data[end:]
        if ids := _ID.findall(whole):
            self.last_id = ids[-1]
        return whole

    def cut(self) -> None:
        """The connection broke: the beginning of an event is sent again."""
        self._rest = b""

    def rest(self) -> bytes:
        """What stands behind the last event of a whole answer."""
        return self._rest


def _pause_s(attempt: int) -> float:
    return min(_MOST_PAUSE_S, _PAUSE_S * 2.0**attempt)


def _is_stream(response: httpx.Response) -> bool:
    headers = response.headers
    kind: str = headers.get("content-type", "")
    return response.status_code == 200 and kind.startswith("text/event-stream") and "content-encoding" not in headers


def _again(request: httpx.Request, content: bytes, last_id: bytes) -> httpx.Request:
    headers = [(name, value) for name, value in request.headers.raw if name.lower() != b"last-event-id"]
    return httpx.Request(
        request.method,
        request.url,
        headers=[*headers, (b"Last-Event-ID", last_id)],
        content=content,
        extensions=request.extensions,
    )


def _refused(response: httpx.Response, body: bytes) -> httpx.RemoteProtocolError:
    text = body[:500].decode("utf-8", "replace")
    return httpx.RemoteProtocolError(f"The stream cannot be resumed: status {response.status_code}, {text}")


class ResumingTransport(httpx.BaseTransport):
    """Passes requests on to another transport, and resumes broken streams."""

    def __init__(self, transport: httpx.BaseTransport | None = None, *, attempts: int = ATTEMPTS) -> None:
        self._transport = transport or httpx.HTTPTransport()
        self._attempts = attempts

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """See httpx."""
        content = request.read()
        response = self._transport.handle_request(request)
        if _is_stream(response):
            response.stream = _ResumedStream(self, request, content, response)
        return response

    def close(self) -> None:
        """See httpx."""
        self._transport.close()

    def again(self, request: httpx.Request, content: bytes, last_id: bytes, broken: int = 0) -> httpx.Response:
        """The rest of a stream that was `broken` so many times without any byte. Raises an error of httpx."""
        for attempt in range(broken, self._attempts):
            time.sleep(_pause_s(attempt))
            try:
                response = self._transport.handle_request(_again(request, content, last_id))
                if _is_stream(response):
                    return response
                body = response.read()
            except _UNREACHED:
                if attempt + 1 == self._attempts:
                    raise
                continue
            if response.status_code not in _RETRIED or attempt + 1 == self._attempts:
                raise _refused(response, body)
        raise httpx.RemoteProtocolError("The stream was not asked for again.")


class _ResumedStream(httpx.SyncByteStream):
    def __init__(
        self, transport: ResumingTransport, request: httpx.Request, content: bytes, response: httpx.Response
    ) -> None:
        self._transport = transport
        self._request = request
        self._content = content
        self._stream = response.stream

    def __iter__(self) -> Iterator[bytes]:
        events, broken = WholeEvents(), 0
        while True:
            assert isinstance(self._stream, httpx.SyncByteStream)
            try:
                for piece in self._stream:
                    broken = 0 if piece else broken
                    if whole := events.feed(piece):
                        yield whole
            except _BROKEN:
                if not events.last_id:
                    raise
            else:
                yield events.rest()
                return
            events.cut()
            self.close()
            broken += 1
            self._stream = self._transport.again(self._request, self._content, events.last_id, broken - 1).stream

    def close(self) -> None:
        assert isinstance(self._stream, httpx.SyncByteStream)
        self._stream.close()


class AsyncResumingTransport(httpx.AsyncBaseTransport):
    """As `ResumingTransport`, for asyncio."""

    def __init__(self, transport: httpx.AsyncBaseTransport | None = None, *, attempts: int = ATTEMPTS) -> None:
        self._transport = transport or httpx.AsyncHTTPTransport()
        self._attempts = attempts

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """See httpx."""
        content = await request.aread()
        response = await self._transport.handle_async_request(request)
        if _is_stream(response):
            response.stream = _AsyncResumedStream(self, request, content, response)
        return response

    async def aclose(self) -> None:
        """See httpx."""
        await self._transport.aclose()

    async def again(self, request: httpx.Request, content: bytes, last_id: bytes, broken: int = 0) -> httpx.Response:
        """The rest of a stream that was `broken` so many times without any byte. Raises an error of httpx."""
        for attempt in range(broken, self._attempts):
            await asyncio.sleep(_pause_s(attempt))
            try:
                response = await self._transport.handle_async_request(_again(request, content, last_id))
                if _is_stream(response):
                    return response
                body = await response.aread()
            except _UNREACHED:
                if attempt + 1 == self._attempts:
                    raise
                continue
            if response.status_code not in _RETRIED or attempt + 1 == self._attempts:
                raise _refused(response, body)
        raise httpx.RemoteProtocolError("The stream was not asked for again.")


class _AsyncResumedStream(httpx.AsyncByteStream):
    def __init__(
        self, transport: AsyncResumingTransport, request: httpx.Request, content: bytes, response: httpx.Response
    ) -> None:
        self._transport = transport
        self._request = request
        self._content = content
        self._stream = response.stream

    async def __aiter__(self) -> AsyncIterator[bytes]:
        events, broken = WholeEvents(), 0
        while True:
            assert isinstance(self._stream, httpx.AsyncByteStream)
            try:
                async for piece in self._stream:
                    broken = 0 if piece else broken
                    if whole := events.feed(piece):
                        yield whole
            except _BROKEN:
                if not events.last_id:
                    raise
            else:
                yield events.rest()
                return
            events.cut()
            await self.aclose()
            broken += 1
            self._stream = (
                await self._transport.again(self._request, self._content, events.last_id, broken - 1)
            ).stream

    async def aclose(self) -> None:
        assert isinstance(self._stream, httpx.AsyncByteStream)
        await self._stream.aclose()
