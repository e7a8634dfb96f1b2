"""The two ends that a test controls: clients, and the pod's side of each connection that the gateway makes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from tests.fakes.memory_transport import Answer, Asked, Transport, Wire, read_answers, read_requests

CHAT = b'{"model":"m","messages":[{"role":"user","content":"hi"}]}'
SSE_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
LAST_CHUNK = b"0\r\n\r\n"


def post(
    body: bytes = CHAT, *headers: str, path: str = "/v1/chat/completions", version: str = "1.1", length: bool = True
) -> bytes:
    """A POST with this body and these `name: value` headers."""
    lines = [f"POST {path} HTTP/{version}", "host: gateway", "content-type: application/json", *headers]
    if length:
        lines.append(f"content-length: {len(body)}")
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body


def get(path: str, *headers: str, method: str = "GET") -> bytes:
    """A request without a body."""
    return "\r\n".join([f"{method} {path} HTTP/1.1", "host: gateway", *headers, "", ""]).encode("latin-1")


def ok(body: bytes = b'{"id":"1"}', *headers: str, status: str = "200 OK") -> bytes:
    """An answer with a content-length."""
    lines = [f"HTTP/1.1 {status}", "content-type: application/json", *headers, f"content-length: {len(body)}"]
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body


def chunk(payload: bytes) -> bytes:
    """One chunk of a chunked body."""
    return b"%x\r\n%b\r\n" % (len(payload), payload)


def event(text: str) -> bytes:
    """One SSE event in one chunk, as engines send it."""
    return chunk(f"data: {text}\n\n".encode())


class Client:
    """A client's end of a connection to the gateway."""

    def __init__(self, wire: Wire, protocol: asyncio.Protocol) -> None:
        self._wire = wire
        self.transport = Transport(wire.loop, protocol)
        wire.do(lambda: protocol.connection_made(self.transport))

    def sends(self, *pieces: bytes) -> Client:
        """Each piece arrives in a separate read."""
        for piece in pieces:
            self._wire.do(lambda piece=piece: self.transport.deliver(piece))  # type: ignore[misc]
        return self

    def leaves(self) -> None:
        """Reset the connection."""
        self._wire.do(lambda: self.transport.hang_up(ConnectionResetError()))

    def half_closes(self) -> None:
        """Send end of file; the client still reads."""
        self._wire.do(lambda: self.transport.deliver(None))

    def stops_reading(self) -> None:
        """Stop taking bytes."""
        self.transport.stall()

    def reads_on(self) -> None:
        """Take bytes again."""
        self._wire.do(self.transport.drain)

    @property
    def raw(self) -> bytes:
        """All bytes it received."""
        return bytes(self.transport.sent)

    @property
    def fate(self) -> str:
        """How the gateway ended the connection; empty while it is open."""
        return "closed" if self.transport.eof else self.transport.ending

    def answers(self, method: str = "POST") -> list[Answer]:
        """The answers it received, parsed by h11."""
        return read_answers(self.raw, ended=self.fate == "closed", method=method)

    def answer(self, method: str = "POST") -> Answer:
        """The only answer it received."""
        (only,) = self.answers(method)
        return only


class PodEnd:
    """A pod's end of a connection that the gateway made."""

    def __init__(self, wire: Wire, address: str, protocol: asyncio.Protocol) -> None:
        self._wire = wire
        self.address = address
        self.transport = Transport(wire.loop, protocol)
        self.answered = 0
        """Requests this test has begun to answer."""

    @property
    def requests(self) -> list[Asked]:
        """The requests it received, parsed by h11."""
        return read_requests(bytes(self.transport.sent))

    @property
    def request(self) -> Asked:
        """The last request it received."""
        return self.requests[-1]

    def sends(self, *pieces: bytes) -> PodEnd:
        """Each piece arrives in a separate read."""
        self.answered = len(self.requests)
        for piece in pieces:
            self._wire.do(lambda piece=piece: self.transport.deliver(piece))  # type: ignore[misc]
        return self

    def dies(self) -> PodEnd:
        """The connection is reset."""
        self.answered = len(self.requests)
        self._wire.do(lambda: self.transport.hang_up(ConnectionResetError()))
        return self

    def closes(self) -> None:
        """The connection is closed in good order."""
        self.answered = len(self.requests)
        self._wire.do(lambda: self.transport.deliver(None))

    @property
    def fate(self) -> str:
        """How the gateway ended the connection; empty while it is open."""
        return self.transport.ending


class Net:
    """The pods' network: which addresses accept, and every connection made."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire
        self.made: list[PodEnd] = []
        self.dialled: list[str] = []
        self.trouble: dict[str, Exception] = {}
        """Address -> the error that dialling it raises."""
        self.silent: set[str] = set()
        """Addresses that never accept."""
        self.rude: set[str] = set()
        """Addresses that accept and close at once."""
        self.slow: set[str] = set()
        """Addresses that accept when `accept` is called."""
        self._waiting: list[asyncio.Future[None]] = []

    def accept(self) -> None:
        """Let the slow addresses accept."""
        for each in self._waiting:
            each.set_result(None)
        self._waiting.clear()

    async def dial(self, make: Callable[[], asyncio.Protocol], address: str, pool: str) -> None:
        """See `router.dataplane.http.upstream.Dial`."""
        self.dialled.append(address)
        if address in self.silent:
            await asyncio.get_running_loop().create_future()
        if address in self.slow:
            self._waiting.append(asyncio.get_running_loop().create_future())
            await self._waiting[-1]
        if address in self.trouble:
            raise self.trouble[address]
        protocol = make()
        end = PodEnd(self._wire, address, protocol)
        protocol.connection_made(end.transport)
        self.made.append(end)
        if address in self.rude:
            end.transport.hang_up(ConnectionResetError())
